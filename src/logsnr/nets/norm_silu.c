/* y = f(a x + c) and its gradients over features x (B, N, C) in bfloat16, channels innermost; see norm_silu.py for the
   formulas. Plain C: the compiler makes vectors of the loops over channels, OpenMP shares the examples among threads. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 32 /* channels whose sums stay in registers while the pixels go by */

typedef uint16_t bf16;

static inline float wide(bf16 v) {
    union { uint32_t bits; float value; } x = {.bits = (uint32_t)v << 16};
    return x.value;
}

static inline bf16 narrow(float v) { /* to nearest, ties to even; NaN stays NaN */
    union { float value; uint32_t bits; } x = {.value = v};
    if ((x.bits & 0x7fffffff) > 0x7f800000) return (bf16)(x.bits >> 16 | 0x40);
    return (bf16)((x.bits + 0x7fff + ((x.bits >> 16) & 1)) >> 16);
}

static inline float sigmoid(float z) { /* 1 / (1 + 2^t), t = -z log2 e: 2^floor(t) by its bits, the rest by a polynomial */
    float t = z * -1.44269504f;
    t = t < -126 ? -126 : t > 126 ? 126 : t;
    float whole = floorf(t), f = t - whole;
    float power = 1 + f * (0.69314718f + f * (0.24022651f + f * (0.05550411f + f * (0.00961813f + f * 0.00133336f))));
    union { int32_t bits; float value; } scale = {.bits = ((int32_t)whole + 127) << 23};
    return 1 / (1 + power * scale.value);
}

/* of x - p and its square, p the first pixel: of x itself they would lose the deviation beside a large mean */
static inline __attribute__((always_inline)) void sums(int64_t N, int64_t C, int64_t lanes, const bf16 *x, float *sum, float *square) {
    float first[LANES] = {0}, second[LANES] = {0};
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < lanes; k++) {
            float v = wide(x[n * C + k]) - wide(x[k]);
            first[k] += v;
            second[k] += v * v;
        }
    memcpy(sum, first, lanes * sizeof(float));
    memcpy(square, second, lanes * sizeof(float));
}

/* dz = dy f'(a x + c), its sums, and those of dz (x - p) */
static inline __attribute__((always_inline)) void slopes(int64_t N, int64_t C, int64_t lanes, int32_t silu, const bf16 *x, const bf16 *dy,
                          const float *a, const float *c, float *dz, float *sum, float *with_x) {
    float first[LANES] = {0}, second[LANES] = {0}, gain[LANES], offset[LANES];
    memcpy(gain, a, lanes * sizeof(float));
    memcpy(offset, c, lanes * sizeof(float));
    for (int64_t n = 0; n < N; n++)
        for (int64_t k = 0; k < lanes; k++) {
            float v = wide(x[n * C + k]), d = wide(dy[n * C + k]);
            if (silu) {
                float z = gain[k] * v + offset[k], s = sigmoid(z);
                d *= s * (1 + z * (1 - s));
            }
            dz[n * C + k] = d;
            first[k] += d;
            second[k] += d * (v - wide(x[k]));
        }
    memcpy(sum, first, lanes * sizeof(float));
    memcpy(with_x, second, lanes * sizeof(float));
}

/* In: x (B, N, C); e (B, C) or null; gain, offset (B, C), or (1, C) where `each` is 0.
   Out: y (B, N, C); kept (5, B, C): a, c, r, e - mean, sum of x - p. */
int norm_silu(int64_t B, int64_t N, int64_t C, int64_t groups, int64_t each, float eps, int32_t silu, const bf16 *x,
             const float *e, const float *gain, const float *offset, bf16 *y, float *kept) {
    float *a = kept, *c = a + B * C, *r = c + B * C, *centred = r + B * C, *s1 = centred + B * C;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < B; b++) {
        const bf16 *xb = x + b * N * C;
        float *restrict ab = a + b * C, *restrict cb = c + b * C, *restrict sum = s1 + b * C;
        float *restrict square = cb; /* until c itself is known */
        for (int64_t k = 0; k < C; k += LANES)
            if (k + LANES <= C)
                sums(N, C, LANES, xb + k, sum + k, square + k);
            else
                sums(N, C, C - k, xb + k, sum + k, square + k);
        int64_t size = C / groups;
        for (int64_t g = 0; g < groups; g++) {
            double first = 0, variance = 0;
            for (int64_t k = g * size; k < (g + 1) * size; k++)
                first += (wide(xb[k]) + sum[k] / (double)N + (e ? e[b * C + k] : 0)) / size;
            for (int64_t k = g * size; k < (g + 1) * size; k++) {
                double mean = sum[k] / (double)N, apart = wide(xb[k]) + mean + (e ? e[b * C + k] : 0) - first;
                variance += (square[k] / (double)N - mean * mean + apart * apart) / size;
            }
            float scale = 1 / sqrt((variance > 0 ? variance : 0) + eps);
            for (int64_t k = g * size; k < (g + 1) * size; k++) {
                int64_t i = b * C + k;
                r[i] = scale;
                centred[i] = (e ? e[i] : 0) - (float)first;
                ab[k] = gain[each * b * C + k] * scale;
                cb[k] = offset[each * b * C + k] + ab[k] * centred[i];
            }
        }
        for (int64_t n = 0; n < N; n++) {
            const bf16 *restrict row = xb + n * C;
            bf16 *restrict out = y + (b * N + n) * C;
            if (silu)
                for (int64_t k = 0; k < C; k++) {
                    float z = ab[k] * wide(row[k]) + cb[k];
                    out[k] = narrow(z * sigmoid(z));
                }
            else
                for (int64_t k = 0; k < C; k++) out[k] = narrow(ab[k] * wide(row[k]) + cb[k]);
        }
    }
    return 0;
}

/* In: as above, dy (B, N, C), kept. Out: dx (B, N, C); given (3, B, C): de, dgain, doffset.
   Returns 1 where memory for one example's dz is missing. */
int norm_silu_backward(int64_t B, int64_t N, int64_t C, int64_t groups, int64_t each, int32_t silu, const bf16 *x, const bf16 *dy,
             const float *gain, const float *kept, bf16 *dx, float *given) {
    const float *a = kept, *c = a + B * C, *r = c + B * C, *centred = r + B * C, *s1 = centred + B * C;
    float *de = given, *dgain = de + B * C, *doffset = dgain + B * C;
    int failed = 0;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < B; b++) {
        const bf16 *xb = x + b * N * C, *yb = dy + b * N * C;
        const float *restrict ab = a + b * C, *restrict cb = c + b * C;
        float *restrict t1 = doffset + b * C, *restrict t2 = dgain + b * C;
        float *dz = malloc((N + 2) * C * sizeof(float));
        if (!dz) {
            failed = 1;
            continue;
        }
        float *restrict slope = dz + N * C, *restrict constant = slope + C;
        for (int64_t k = 0; k < C; k += LANES)
            if (k + LANES > C)
                slopes(N, C, C - k, silu, xb + k, yb + k, ab + k, cb + k, dz + k, t1 + k, t2 + k);
            else if (silu)
                slopes(N, C, LANES, 1, xb + k, yb + k, ab + k, cb + k, dz + k, t1 + k, t2 + k);
            else
                slopes(N, C, LANES, 0, xb + k, yb + k, ab + k, cb + k, dz + k, t1 + k, t2 + k);
        int64_t size = C / groups;
        for (int64_t g = 0; g < groups; g++) {
            double p = 0, q = 0;
            for (int64_t k = g * size; k < (g + 1) * size; k++) {
                int64_t i = b * C + k;
                t2[k] = r[i] * (t2[k] + (wide(xb[k]) + centred[i]) * t1[k]);
                p += (double)gain[each * b * C + k] * t1[k];
                q += (double)gain[each * b * C + k] * t2[k];
            }
            p /= size * N;
            q /= size * N;
            for (int64_t k = g * size; k < (g + 1) * size; k++) {
                int64_t i = b * C + k;
                slope[k] = -r[i] * r[i] * (float)q;
                constant[k] = -r[i] * ((float)p + r[i] * centred[i] * (float)q);
                de[i] = ab[k] * t1[k] + slope[k] * s1[i] + (constant[k] + slope[k] * wide(xb[k])) * N;
            }
        }
        for (int64_t n = 0; n < N; n++) {
            const bf16 *restrict row = xb + n * C;
            const float *restrict in = dz + n * C;
            bf16 *restrict out = dx + (b * N + n) * C;
            for (int64_t k = 0; k < C; k++) out[k] = narrow(ab[k] * in[k] + slope[k] * wide(row[k]) + constant[k]);
        }
        free(dz);
    }
    return failed;
}
