/* The activations that bend.
 *
 * exp: x = n ln 2 + r with n = round(x / ln 2), exp(r) as a polynomial (Cephes), x clamped to [-87, 88]; relative error below 2e-7.
 * sigmoid = 1 / (1 + exp(-x)); tanh = 1 - 2 / (exp(2x) + 1), absolute error below 1e-6; gelu by Abramowitz and Stegun 7.1.26,
 * absolute error of the distribution function below 1e-6.
 */
#include "activation.h"

#define LANES 4
#include "activation_lanes.h"
#define LANES 8
#include "activation_lanes.h"
#if AC_F32_LANES == 16
#define LANES 16
#include "activation_lanes.h"
#endif
