/* Running a compressed network: load a model.acm, run it, time its steps. The only header that an application needs.
 *
 * A model runs on the thread that calls it, on one core. Different models may be used by different threads at the same time, one
 * model by one thread at a time. To run one network in several threads load it once for each: its weights are mapped from
 * the file, so they are in memory once; every model has its own memory for activations, allocated when it is loaded.
 * Needs libc and libm, nothing else. docs/example.c shows all of it in 30 lines.
 */
#ifndef AUTOCOMPRESS_H
#define AUTOCOMPRESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define AC_API __attribute__((visibility("default")))

typedef struct ac_model ac_model;

typedef enum {
  AC_OK,
  AC_ERROR_FILE,     /* the file cannot be opened or mapped */
  AC_ERROR_FORMAT,   /* no model file, or a part of one */
  AC_ERROR_VERSION,  /* a model file of another version of the format */
  AC_ERROR_CHECKSUM, /* the file is damaged */
  AC_ERROR_INVALID,  /* the file is undamaged, but does not describe a network that can be run */
  AC_ERROR_MEMORY,   /* the network needs more memory than there is, or than AC_MOST_MEMORY */
  AC_ERROR_ARGUMENT  /* a null or misaligned pointer */
} ac_status;

/* Bytes of the buffer for an error's details. */
#define AC_ERROR_BYTES 256

/* Load the model in the file at `path`. The file is mapped: while the model is loaded, do not write to it (to update it, write another
 * and rename that). All of it is checked: a file from anywhere gives an error, never a crash.
 *
 * model: where to put the model; NULL is put there on an error.
 * error: AC_ERROR_BYTES characters, where to put a sentence that says what is wrong; may be NULL. */
AC_API ac_status ac_load(const char *path, ac_model **model, char *error);

/* The same from memory, aligned to 64 bytes, which must stay as it is until ac_free. Several models may be loaded from it. */
AC_API ac_status ac_load_memory(const void *data, size_t bytes, ac_model **model, char *error);

/* Run the network once; allocates nothing.
 *
 * input: ac_input_size floats, planar: [channel][row][column].
 * output: ac_output_size floats, which must not overlap with the input. */
AC_API ac_status ac_run(ac_model *model, const float *input, float *output);

/* The same, and the time of every step in `microseconds`, of ac_step_count doubles. */
AC_API ac_status ac_profile(ac_model *model, const float *input, float *output, double *microseconds);

/* Free the model and unmap its file; NULL is left alone. */
AC_API void ac_free(ac_model *model);

/* What an ac_status means, in a few words. */
AC_API const char *ac_error_text(ac_status status);

/* Shapes of one sample: number of dimensions (at most 8), their sizes, and the number of floats. */
AC_API int64_t ac_input_rank(const ac_model *model);
AC_API int64_t ac_output_rank(const ac_model *model);
AC_API const int64_t *ac_input_shape(const ac_model *model);
AC_API const int64_t *ac_output_shape(const ac_model *model);
AC_API int64_t ac_input_size(const ac_model *model);
AC_API int64_t ac_output_size(const ac_model *model);

/* Bytes of memory for activations and scratch, besides the mapped file, the input and the output. */
AC_API int64_t ac_peak_bytes(const ac_model *model);

/* Elementary operations of one run, about: to refuse a file of unknown origin that would run for years. */
AC_API double ac_work(const ac_model *model);

/* Steps in the order in which they run: their number, and of each 0 <= step < ac_step_count its name and its kernel. */
AC_API int64_t ac_step_count(const ac_model *model);
AC_API const char *ac_step_name(const ac_model *model, int64_t step);
AC_API const char *ac_step_kernel(const ac_model *model, int64_t step);

/* What was written into the file about the network: a JSON object of strings. Not checked: treat it as the file's author's. */
AC_API const char *ac_metadata(const ac_model *model);

#ifdef __cplusplus
}
#endif

#endif
