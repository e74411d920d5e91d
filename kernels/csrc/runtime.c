/* The runtime: reads a model file (docs/artifact.md describes every byte), checks all of it, plans memory once, runs the steps.
 *
 * The file is not trusted. The order of the checks is that in which they make each other safe: the header, then tensors, then the steps
 * one by one. After ac_load has returned AC_OK, running needs no check. */
#define _POSIX_C_SOURCE 200809L
#include "autocompress.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ac_kernels.h"
#include "checksum.h"
#include "plan.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISON 1
#endif
#endif
#if defined(POISON) || defined(__SANITIZE_ADDRESS__)
#undef POISON
#define POISON 1
#include <sanitizer/asan_interface.h>
#else
#define POISON 0
#endif

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "model files are read in place: little-endian machines only");

/* Limits: far above all networks for phones, and low enough that no sum below overflows. */
#define MOST_STEPS 16384
#define MOST_TENSORS 32768
#define MOST_ELEMENTS ((int64_t)1 << 26) /* of a tensor */
#ifndef AC_MOST_MEMORY
#define AC_MOST_MEMORY ((int64_t)1 << 30) /* for activations and scratch together, and for offsets */
#endif
#define MOST_RANK 8

enum { VERSION = 2, INTEGERS = 28, REALS = 6, BUFFERS = 6, PLACES = 3 };
static const char MAGIC[] = "\x89" "ACM\r\n\x1a\n";

typedef struct {
  char magic[8];
  uint32_t version, checksum;
  uint64_t bytes;
  uint32_t tensors, steps, input, output, input_rank, output_rank;
  uint64_t names_at, names_bytes, metadata_at, metadata_bytes;
  int64_t input_shape[MOST_RANK], output_shape[MOST_RANK];
  uint64_t unused[6];
} header;

typedef struct {
  uint32_t type, name;
  int64_t channels, pixels;
  uint64_t data_at;
  double scale;
  int32_t zero_point;
  uint32_t has_format;
  uint64_t unused[2];
} tensor;

typedef struct {
  char kernel[32];
  int64_t integers[INTEGERS];
  float reals[REALS];
  uint32_t name, unused;
  struct {
    int64_t tensor, offset;
  } places[PLACES]; /* x, x2, y */
  struct {
    uint64_t at, bytes;
  } buffers[BUFFERS]; /* weights, bias, scale, start, counts, indices */
  uint64_t unused_too[2];
} record;

_Static_assert(sizeof(header) == 256 && sizeof(tensor) == 64 && sizeof(record) == 448, "the structs are the file's");
_Static_assert(offsetof(ac_problem, low) == INTEGERS * sizeof(int64_t), "the integers of a problem are the file's");
_Static_assert(offsetof(ac_problem, weights) == offsetof(ac_problem, low) + REALS * sizeof(float), "and so are its reals");

/* What a place is an offset from; known when the network is run. */
typedef enum { IN_ARENA, IN_FILE, IN_INPUT, IN_OUTPUT, BASES } base;

typedef struct {
  base base;
  int64_t offset;
} place;

typedef struct {
  const ac_kernel *kernel;
  ac_problem problem;
  ac_lengths lengths;
  const int32_t *indices;
  int64_t offset_count, scratch_bytes;
  place x, x2, y;
} step;

struct ac_model {
  const char *data;
  size_t bytes;
  int mapped;
  step *steps;
  int32_t *offsets;
  char *arena; /* scratch, then activations */
  int64_t arena_bytes;
  double work;
};

static const header *header_of(const ac_model *model) { return (const header *)model->data; }
static const tensor *tensors_of(const ac_model *model) { return (const tensor *)(model->data + sizeof(header)); }
static const record *records_of(const ac_model *model) {
  return (const record *)(tensors_of(model) + header_of(model)->tensors);
}
static const char *name_at(const ac_model *model, uint32_t at) { return model->data + header_of(model)->names_at + at; }

/* What is known of a tensor while a file is loaded. */
typedef struct {
  int64_t bytes;
  int64_t first, last;   /* steps: the first that writes it, the last that reads or writes it */
  int64_t block;         /* of the plan; -1: not in the arena */
  int64_t written;       /* the first of its spans, or -1 */
} usage;

/* A range of bytes of a tensor that has been written; a tensor's are sorted, and do not touch. */
typedef struct {
  int64_t begin, end, next;
} span;

typedef struct {
  ac_model *model;
  usage *usages;
  span *spans;
  ac_block *blocks;
  char *error;
} loader;

__attribute__((format(printf, 3, 4))) static ac_status fail(const loader *load, ac_status status, const char *format, ...) {
  if (load->error != NULL) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(load->error, AC_ERROR_BYTES, format, arguments);
    va_end(arguments);
  }
  return status;
}

/* Of a part of the file: whether it lies in it. */
static int inside(const ac_model *model, uint64_t at, uint64_t bytes) {
  return at <= model->bytes && bytes <= model->bytes - at;
}

/* The same of an array that is read in place. */
static int array_inside(const ac_model *model, uint64_t at, uint64_t bytes) {
  return bytes == 0 ? at == 0 : at % 64 == 0 && inside(model, at, bytes);
}

/* The number of elements, or 0 if a side or the product is out of range. */
static int64_t elements(const int64_t *sides, int64_t count) {
  int64_t product = 1;
  for (int64_t i = 0; i < count; i++) {
    if (sides[i] < 1 || sides[i] > MOST_ELEMENTS / product) return 0;
    product *= sides[i];
  }
  return product;
}

static ac_status check_header(const loader *load) {
  const ac_model *model = load->model;
  const header *head = header_of(model);
  if (model->bytes < sizeof(header)) return fail(load, AC_ERROR_FORMAT, "the file is too short for a model");
  if (memcmp(head->magic, MAGIC, sizeof head->magic) != 0) return fail(load, AC_ERROR_FORMAT, "the file is not a model");
  if (head->version != VERSION)
    return fail(load, AC_ERROR_VERSION, "the file has version %u, this runtime reads version %d", head->version, VERSION);
  if (head->bytes != model->bytes)
    return fail(load, AC_ERROR_FORMAT, "the file should have %llu bytes and has %llu: a part is missing",
                (unsigned long long)head->bytes, (unsigned long long)model->bytes);
  if (ac_crc32(model->data + 16, model->bytes - 16) != head->checksum)
    return fail(load, AC_ERROR_CHECKSUM, "the file is damaged: its checksum is wrong");
  if (head->tensors < 1 || head->tensors > MOST_TENSORS || head->steps < 1 || head->steps > MOST_STEPS ||
      !inside(model, sizeof(header), head->tensors * sizeof(tensor) + head->steps * sizeof(record)))
    return fail(load, AC_ERROR_INVALID, "the number of tensors or steps is out of range");
  if (!inside(model, head->names_at, head->names_bytes) || head->names_bytes < 1 ||
      model->data[head->names_at + head->names_bytes - 1] != 0 || !inside(model, head->metadata_at, head->metadata_bytes) ||
      head->metadata_bytes < 1 || model->data[head->metadata_at + head->metadata_bytes - 1] != 0)
    return fail(load, AC_ERROR_INVALID, "names or metadata are out of range");
  return AC_OK;
}

static ac_status check_tensors(const loader *load) {
  const ac_model *model = load->model;
  const header *head = header_of(model);
  for (int64_t i = 0; i < head->tensors; i++) {
    const tensor *t = tensors_of(model) + i;
    usage *own = load->usages + i;
    const int64_t lanes = t->type == AC_S8 && elements(&t->channels, 1) != 0 ? (t->channels + 3) / 4 * 4 : t->channels;
    const int64_t count = elements((const int64_t[]){lanes, t->pixels}, 2);
    if (t->type > AC_S8 || count == 0 || t->name >= head->names_bytes)
      return fail(load, AC_ERROR_INVALID, "tensor %lld: type, size or name is out of range", (long long)i);
    *own = (usage){count * (t->type == AC_F32 ? 4 : t->type == AC_F16 ? 2 : 1), -1, -1, -1, -1};
    if (t->data_at != 0 && !array_inside(model, t->data_at, (uint64_t)own->bytes))
      return fail(load, AC_ERROR_INVALID, "tensor %lld: its data is outside of the file", (long long)i);
    if (t->data_at != 0 || i == head->input) {
      load->spans[i] = (span){0, own->bytes, -1};
      own->written = i;
    }
  }
  if (head->input >= head->tensors || head->output >= head->tensors || head->input == head->output)
    return fail(load, AC_ERROR_INVALID, "input or output is no tensor of its own");
  const tensor *ends[] = {tensors_of(model) + head->input, tensors_of(model) + head->output};
  const uint32_t ranks[] = {head->input_rank, head->output_rank};
  const int64_t *shapes[] = {head->input_shape, head->output_shape};
  for (int i = 0; i < 2; i++)
    if (ends[i]->type != AC_F32 || ends[i]->data_at != 0 || ranks[i] > MOST_RANK ||
        elements(shapes[i], ranks[i]) != ends[i]->channels * ends[i]->pixels)
      return fail(load, AC_ERROR_INVALID, "the shape of the input or output is not that of its tensor");
  return AC_OK;
}

static int was_written(const loader *load, const usage *own, int64_t begin, int64_t end) {
  for (int64_t n = own->written; n >= 0; n = load->spans[n].next)
    if (load->spans[n].begin <= begin && end <= load->spans[n].end) return 1;
  return 0;
}

/* Note that [begin, end) is written, as span number `fresh`. */
static void write_span(const loader *load, usage *own, int64_t begin, int64_t end, int64_t fresh) {
  span *spans = load->spans;
  int64_t *link = &own->written;
  while (*link >= 0 && spans[*link].end < begin) link = &spans[*link].next;
  while (*link >= 0 && spans[*link].begin <= end) {
    if (spans[*link].begin < begin) begin = spans[*link].begin;
    if (spans[*link].end > end) end = spans[*link].end;
    *link = spans[*link].next;
  }
  spans[fresh] = (span){begin, end, *link};
  *link = fresh;
}

/* One place of a step: of a tensor of that type, and inside of it. Returns what is wrong, or NULL. */
static const char *check_place(const loader *load, const record *from, int which, ac_type type, int64_t bytes) {
  const int64_t number = from->places[which].tensor, offset = from->places[which].offset;
  if (number < 0 || number >= header_of(load->model)->tensors) return "a tensor's number is out of range";
  if (tensors_of(load->model)[number].type != type) return "a tensor has another type than its kernel takes";
  /* Pixels are 4 bytes of f32 and of a quad of s8, 2 of f16. */
  if (offset < 0 || offset % (type == AC_F16 ? 2 : 4) != 0 || offset > load->usages[number].bytes ||
      bytes > load->usages[number].bytes - offset)
    return "a place is outside of its tensor";
  return NULL;
}

static const char *check_places(const loader *load, const record *from, const step *s, int64_t number) {
  const header *head = header_of(load->model);
  const ac_type y_type = s->problem.y_real ? AC_F32 : s->kernel->y_type;
  const int64_t bytes[PLACES] = {s->lengths.x, s->lengths.x2, s->lengths.y};
  for (int i = 0; i < PLACES; i++) {
    if (i == 1 && s->lengths.x2 == 0) {
      if (from->places[1].tensor != -1) return "this kernel has one input";
      continue;
    }
    const char *wrong = check_place(load, from, i, i == 2 ? y_type : s->kernel->x_type, bytes[i]);
    if (wrong != NULL) return wrong;
    usage *own = load->usages + from->places[i].tensor;
    const int64_t begin = from->places[i].offset;
    if (i < 2) {
      if (from->places[i].tensor == from->places[2].tensor) return "a step reads the tensor that it writes";
      if (!was_written(load, own, begin, begin + bytes[i])) return "a step reads what no earlier step has written";
    } else {
      if (tensors_of(load->model)[from->places[i].tensor].data_at != 0 || from->places[i].tensor == head->input)
        return "a step writes a constant or the input";
      write_span(load, own, begin, begin + bytes[i], head->tensors + number);
      if (own->first < 0) own->first = number;
    }
    own->last = number;
  }
  return NULL;
}

/* Kernel and problem of a step, and everything about them but where its tensors are. Returns what is wrong, or NULL. */
static const char *read_step(const ac_model *model, const record *from, step *s) {
  if (from->kernel[sizeof from->kernel - 1] != 0 || (s->kernel = ac_find(from->kernel)) == NULL) return "unknown kernel";
  if (from->name >= header_of(model)->names_bytes) return "its name is out of range";
  ac_problem *p = &s->problem;
  memcpy(p, from->integers, sizeof from->integers);
  memcpy(&p->low, from->reals, sizeof from->reals);
  for (int i = 0; i < REALS; i++)
    if (from->reals[i] != from->reals[i]) return "a real number is not one";
  for (int i = 0; i < BUFFERS; i++)
    if (!array_inside(model, from->buffers[i].at, from->buffers[i].bytes)) return "a buffer is outside of the file";
  /* An empty buffer points to the file's beginning, not to NULL, which may not even be added to. */
  p->weights = model->data + from->buffers[0].at;
  p->bias = (const float *)(model->data + from->buffers[1].at);
  p->scale = (const float *)(model->data + from->buffers[2].at);
  p->start = (const int32_t *)(model->data + from->buffers[3].at);
  p->counts = (const int32_t *)(model->data + from->buffers[4].at);
  s->indices = (const int32_t *)(model->data + from->buffers[5].at);

  const char *wrong = ac_validate_sizes(s->kernel, p);
  if (wrong != NULL) return wrong;
  const int64_t blocks = (int64_t)(from->buffers[5].bytes / sizeof(int32_t));
  if (blocks > MOST_ELEMENTS) return "a buffer is too large";
  s->lengths = ac_required(s->kernel, p, blocks);
  ac_lengths found = s->lengths; /* x, x2 and y are places, and checked as such */
  found.weights = (int64_t)from->buffers[0].bytes;
  found.bias = (int64_t)from->buffers[1].bytes;
  found.scale = (int64_t)from->buffers[2].bytes;
  found.start = (int64_t)from->buffers[3].bytes;
  found.counts = (int64_t)from->buffers[4].bytes;
  found.indices = (int64_t)from->buffers[5].bytes;
  wrong = ac_validate(s->kernel, p, &found, s->indices);
  if (wrong != NULL) return wrong;
  s->offset_count = ac_offset_count(s->kernel, p, blocks);
  s->scratch_bytes = ac_scratch_bytes(s->kernel, p);
  return NULL;
}

static double work_of(const step *s) {
  const ac_problem *p = &s->problem;
  const double bits = s->kernel->bits != 0 ? (double)s->kernel->bits : 8.0;
  const double products = (double)s->lengths.weights * 8.0 / bits + (double)(p->rows * p->kernel_height * p->kernel_width);
  /* Rows of positions may be as long as those of the input. */
  const double longest = (double)(p->x_width > p->y_width + p->kernel_width * p->dilation_width
                                      ? p->x_width : p->y_width + p->kernel_width * p->dilation_width);
  return (double)p->y_height * longest * products + (double)(s->scratch_bytes + s->lengths.x + s->lengths.x2 + s->lengths.y);
}

static ac_status check_steps(const loader *load) {
  ac_model *model = load->model;
  const header *head = header_of(model);
  int64_t offsets = 0;
  for (int64_t i = 0; i < head->steps; i++) {
    const record *from = records_of(model) + i;
    step *s = model->steps + i;
    const char *wrong = read_step(model, from, s);
    if (wrong == NULL) wrong = check_places(load, from, s, i);
    if (wrong != NULL) return fail(load, AC_ERROR_INVALID, "step %lld: %s", (long long)i, wrong);
    offsets += s->offset_count;
    model->work += work_of(s);
    if (offsets > AC_MOST_MEMORY / (int64_t)sizeof(int32_t))
      return fail(load, AC_ERROR_MEMORY, "the offsets of all steps need more than %lld bytes", (long long)AC_MOST_MEMORY);
  }
  const usage *output = load->usages + head->output;
  if (!was_written(load, output, 0, output->bytes))
    return fail(load, AC_ERROR_INVALID, "no step writes all of the output");
  model->offsets = malloc((size_t)(offsets + 1) * sizeof(int32_t));
  if (model->offsets == NULL) return fail(load, AC_ERROR_MEMORY, "out of memory");
  int32_t *to = model->offsets;
  for (int64_t i = 0; i < head->steps; i++) {
    step *s = model->steps + i;
    ac_offsets(s->kernel, &s->problem, s->indices, s->lengths.indices / (int64_t)sizeof(int32_t), to);
    s->problem.offsets = to;
    to += s->offset_count;
  }
  return AC_OK;
}

/* The tensor read by step `number` whose memory its output may take over, or -1: that of an operand which no later step needs, of a
 * kernel that reads every element just before it writes that same one. */
static int64_t taken_over(const loader *load, int64_t number) {
  const step *s = load->model->steps + number;
  const record *from = records_of(load->model) + number;
  const ac_problem *p = &s->problem;
  const int64_t y = from->places[2].tensor;
  if (s->kernel->op != AC_BINARY && strstr(s->kernel->name, "_activation") == NULL) return -1;
  if (load->usages[y].first != number || s->lengths.y != load->usages[y].bytes) return -1;
  for (int i = 0; i < 2; i++) {
    const int64_t x = from->places[i].tensor, plane = i == 0 ? p->x_plane : p->x2_plane;
    if (x < 0 || from->places[0].tensor == from->places[1].tensor) continue;
    const usage *own = load->usages + x;
    if (own->block >= 0 && own->last == number && own->bytes == load->usages[y].bytes && plane == p->y_plane && !(i == 1 && p->gate))
      return x;
  }
  return -1;
}

static place place_of(const loader *load, int64_t number, int64_t offset, int64_t scratch) {
  const header *head = header_of(load->model);
  const tensor *t = tensors_of(load->model) + number;
  if (t->data_at != 0) return (place){IN_FILE, (int64_t)t->data_at + offset};
  if (number == head->input) return (place){IN_INPUT, offset};
  if (number == head->output) return (place){IN_OUTPUT, offset};
  return (place){IN_ARENA, scratch + load->blocks[load->usages[number].block].offset + offset};
}

static ac_status plan_memory(const loader *load) {
  ac_model *model = load->model;
  const header *head = header_of(model);
  int64_t count = 0, scratch = 0;
  for (int64_t i = 0; i < head->steps; i++) {
    const record *from = records_of(model) + i;
    const int64_t y = from->places[2].tensor;
    usage *own = load->usages + y;
    if (AC_ALIGNED(model->steps[i].scratch_bytes) > scratch) scratch = AC_ALIGNED(model->steps[i].scratch_bytes);
    if (own->first != i || y == head->output) continue;
    const int64_t operand = taken_over(load, i);
    if (operand >= 0) {
      own->block = load->usages[operand].block;
      load->blocks[own->block].last = own->last;
    } else {
      own->block = count;
      load->blocks[count++] = (ac_block){.bytes = own->bytes, .first = own->first, .last = own->last};
    }
  }
  model->arena_bytes = scratch + ac_plan(load->blocks, count);
  if (model->arena_bytes > AC_MOST_MEMORY)
    return fail(load, AC_ERROR_MEMORY, "the network needs %lld bytes for activations, more than the limit of %lld",
                (long long)model->arena_bytes, (long long)AC_MOST_MEMORY);
  void *arena = NULL;
  if (posix_memalign(&arena, 64, (size_t)model->arena_bytes + 64) != 0)
    return fail(load, AC_ERROR_MEMORY, "out of memory: the network needs %lld bytes for activations",
                (long long)model->arena_bytes);
  model->arena = arena;
  /* Touched now rather than in the first run; and pad lanes that nobody writes hold no one else's data. */
  memset(arena, 0, (size_t)model->arena_bytes + 64);
  for (int64_t i = 0; i < head->steps; i++) {
    const record *from = records_of(model) + i;
    step *s = model->steps + i;
    s->x = place_of(load, from->places[0].tensor, from->places[0].offset, scratch);
    s->x2 = s->lengths.x2 == 0 ? s->x : place_of(load, from->places[1].tensor, from->places[1].offset, scratch);
    s->y = place_of(load, from->places[2].tensor, from->places[2].offset, scratch);
  }
  return AC_OK;
}

static ac_status load_checked(loader *load) {
  ac_model *model = load->model;
  ac_status status = check_header(load);
  if (status != AC_OK) return status;
  const size_t steps = header_of(model)->steps, tensors = header_of(model)->tensors;
  model->steps = calloc(steps, sizeof *model->steps);
  load->usages = calloc(tensors, sizeof *load->usages);
  load->spans = calloc(tensors + steps, sizeof *load->spans);
  load->blocks = calloc(steps, sizeof *load->blocks);
  if (model->steps == NULL || load->usages == NULL || load->spans == NULL || load->blocks == NULL)
    return fail(load, AC_ERROR_MEMORY, "out of memory");
  status = check_tensors(load);
  if (status == AC_OK) status = check_steps(load);
  if (status == AC_OK) status = plan_memory(load);
  return status;
}

static ac_status load_mapped(const void *data, size_t bytes, int mapped, ac_model **model, char *error) {
  loader load = {.model = calloc(1, sizeof(ac_model)), .error = error};
  if (load.model == NULL) {
    if (mapped) munmap((void *)data, bytes);
    return fail(&load, AC_ERROR_MEMORY, "out of memory");
  }
  *load.model = (ac_model){.data = data, .bytes = bytes, .mapped = mapped};
  const ac_status status = load_checked(&load);
  free(load.usages);
  free(load.spans);
  free(load.blocks);
  if (status == AC_OK)
    *model = load.model;
  else
    ac_free(load.model);
  return status;
}

ac_status ac_load_memory(const void *data, size_t bytes, ac_model **model, char *error) {
  const loader load = {.error = error};
  if (model == NULL) return fail(&load, AC_ERROR_ARGUMENT, "there is nowhere to put the model");
  *model = NULL;
  if (data == NULL || (uintptr_t)data % 64 != 0)
    return fail(&load, AC_ERROR_ARGUMENT, "the model's memory is not aligned to 64 bytes");
  return load_mapped(data, bytes, 0, model, error);
}

ac_status ac_load(const char *path, ac_model **model, char *error) {
  const loader load = {.error = error};
  if (model == NULL) return fail(&load, AC_ERROR_ARGUMENT, "there is nowhere to put the model");
  *model = NULL;
  const int file = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail(&load, AC_ERROR_FILE, "the file cannot be opened");
  struct stat about;
  void *data = MAP_FAILED;
  const int regular = fstat(file, &about) == 0 && S_ISREG(about.st_mode);
  if (regular && about.st_size > 0) data = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  close(file);
  if (regular && about.st_size == 0) return fail(&load, AC_ERROR_FORMAT, "the file is too short for a model");
  if (data == MAP_FAILED) return fail(&load, AC_ERROR_FILE, "the file cannot be mapped into memory");
  return load_mapped(data, (size_t)about.st_size, 1, model, error);
}

void ac_free(ac_model *model) {
  if (model == NULL) return;
  if (model->mapped) munmap((void *)model->data, model->bytes);
  free(model->steps);
  free(model->offsets);
  free(model->arena);
  free(model);
}

/* With AddressSanitizer a step may touch only what is its own, although all is one piece of memory. */
#if POISON
static void hide(const ac_model *model) {
  ASAN_POISON_MEMORY_REGION(model->arena, (size_t)model->arena_bytes);
  ASAN_POISON_MEMORY_REGION(model->data, model->bytes);
}

static void show(const void *memory, int64_t bytes) { ASAN_UNPOISON_MEMORY_REGION(memory, (size_t)bytes); }

static void show_only(const ac_model *model, const step *s, char *const *bases) {
  hide(model);
  const ac_problem *p = &s->problem;
  show(model->arena, s->scratch_bytes);
  show(p->weights, s->lengths.weights);
  show(p->bias, s->lengths.bias);
  show(p->scale, s->lengths.scale);
  show(p->start, s->lengths.start);
  show(p->counts, s->lengths.counts);
  show(bases[s->x.base] + s->x.offset, s->lengths.x);
  show(bases[s->x2.base] + s->x2.offset, s->lengths.x2);
  show(bases[s->y.base] + s->y.offset, s->lengths.y);
}

static void show_all(const ac_model *model) {
  show(model->arena, model->arena_bytes);
  show(model->data, (int64_t)model->bytes);
}
#else
static void show_only(const ac_model *model, const step *s, char *const *bases) { (void)model, (void)s, (void)bases; }
static void show_all(const ac_model *model) { (void)model; }
#endif

static double microseconds_now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Run all steps; times are only taken where they are wanted. */
static ac_status run(ac_model *model, const float *input, float *output, double *microseconds) {
  if (model == NULL || input == NULL || output == NULL || (uintptr_t)input % 4 != 0 || (uintptr_t)output % 4 != 0)
    return AC_ERROR_ARGUMENT;
  char *const bases[BASES] = {model->arena, (char *)model->data, (char *)input, (char *)output};
  const int64_t count = ac_step_count(model);
  double before = microseconds != NULL ? microseconds_now() : 0.0;
  for (int64_t i = 0; i < count; i++) {
    const step *s = model->steps + i;
    show_only(model, s, bases);
    s->kernel->run(&s->problem, bases[s->x.base] + s->x.offset, bases[s->x2.base] + s->x2.offset,
                   bases[s->y.base] + s->y.offset, model->arena);
    show_all(model);
    if (microseconds != NULL) {
      const double now = microseconds_now();
      microseconds[i] = now - before;
      before = now;
    }
  }
  return AC_OK;
}

ac_status ac_run(ac_model *model, const float *input, float *output) { return run(model, input, output, NULL); }

ac_status ac_profile(ac_model *model, const float *input, float *output, double *microseconds) {
  return microseconds == NULL ? AC_ERROR_ARGUMENT : run(model, input, output, microseconds);
}

const char *ac_error_text(ac_status status) {
  static const char *const texts[] = {"no error",           "the file cannot be read",   "not a model file",
                                      "another version",    "the file is damaged",       "the file does not describe a network",
                                      "not enough memory",  "a wrong argument"};
  return (size_t)status < sizeof texts / sizeof *texts ? texts[status] : "unknown error";
}

int64_t ac_input_rank(const ac_model *model) { return header_of(model)->input_rank; }
int64_t ac_output_rank(const ac_model *model) { return header_of(model)->output_rank; }
const int64_t *ac_input_shape(const ac_model *model) { return header_of(model)->input_shape; }
const int64_t *ac_output_shape(const ac_model *model) { return header_of(model)->output_shape; }
int64_t ac_input_size(const ac_model *model) { return elements(ac_input_shape(model), ac_input_rank(model)); }
int64_t ac_output_size(const ac_model *model) { return elements(ac_output_shape(model), ac_output_rank(model)); }
int64_t ac_peak_bytes(const ac_model *model) { return model->arena_bytes; }
double ac_work(const ac_model *model) { return model->work; }
int64_t ac_step_count(const ac_model *model) { return header_of(model)->steps; }
const char *ac_step_name(const ac_model *model, int64_t step) { return name_at(model, records_of(model)[step].name); }
const char *ac_step_kernel(const ac_model *model, int64_t step) { return model->steps[step].kernel->name; }
const char *ac_metadata(const ac_model *model) { return model->data + header_of(model)->metadata_at; }
