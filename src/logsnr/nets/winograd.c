/* Convolutions of 3 x 3 by tiles of 2 x 2, channels innermost, products in bfloat16 and sums in float32; winograd.py has
   the formulas. Only where the processor multiplies in bfloat16 (AVX512-BF16). */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef uint16_t bf16;

#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

#define TILES 24 /* in a block of a convolution: what a block needs stays in the second cache */
#define MANY 64 /* in a block of the weights' gradient, whose sums are read and written once a block */
#define POINTS 16 /* of a transformed tile, 4 x 4 */
#define LINE 64 /* bytes, between the points of a block: strides of powers of two share few places of the first cache */
#define V16 __m512

int convolves(void) { return 1; }

static inline V16 load(const bf16 *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}

static inline __m256i narrow(V16 v) { return (__m256i)_mm512_cvtneps_pbh(v); }

static inline void store(bf16 *p, V16 v) { _mm256_storeu_si256((__m256i *)p, narrow(v)); }

static inline V16 sum(V16 a, V16 b) { return _mm512_add_ps(a, b); }
static inline V16 less(V16 a, V16 b) { return _mm512_sub_ps(a, b); }

/* Where the pixels of a picture's tiles are: 2 x 2 of the output, 4 x 4 of the input around them. */
typedef struct {
    int64_t B, H, W, rows, columns;
} Picture;

static Picture picture(int64_t B, int64_t H, int64_t W) { return (Picture){B, H, W, (H + 1) / 2, (W + 1) / 2}; }

static int64_t tiles(const Picture *p) { return p->B * p->rows * p->columns; }

/* The `side` x `side` pixels from (2 i + from, 2 j + from) of tile `t`; `zeros` where there are none. */
static inline void pixels(const Picture *p, int64_t t, int64_t side, int64_t from, int64_t C, const bf16 *x, const bf16 *zeros,
                          const bf16 **at) {
    int64_t j = t % p->columns, i = t / p->columns % p->rows, b = t / (p->columns * p->rows);
    for (int64_t r = 0; r < side; r++)
        for (int64_t s = 0; s < side; s++) {
            int64_t h = 2 * i + from + r, w = 2 * j + from + s;
            int inside = b < p->B && h >= 0 && h < p->H && w >= 0 && w < p->W;
            at[side * r + s] = inside ? x + ((b * p->H + h) * p->W + w) * C : zeros;
        }
}

/* B' d B of 16 channels of a tile */
static inline __attribute__((always_inline)) void of_input(const bf16 **at, int64_t c, V16 *v) {
    V16 d[16];
    for (int k = 0; k < 4; k++) {
        V16 d0 = load(at[k] + c), d1 = load(at[4 + k] + c), d2 = load(at[8 + k] + c), d3 = load(at[12 + k] + c);
        d[k] = less(d0, d2), d[4 + k] = sum(d1, d2), d[8 + k] = less(d2, d1), d[12 + k] = less(d1, d3);
    }
    for (int k = 0; k < 16; k += 4) {
        v[k] = less(d[k], d[k + 2]), v[k + 1] = sum(d[k + 1], d[k + 2]);
        v[k + 2] = less(d[k + 2], d[k + 1]), v[k + 3] = less(d[k + 1], d[k + 3]);
    }
}

/* A d A' of 16 channels of a tile of an output's gradient; returns the sum of its pixels */
static inline __attribute__((always_inline)) V16 of_slope(const bf16 **at, int64_t c, V16 *v) {
    V16 d[8];
    for (int k = 0; k < 2; k++) {
        V16 d0 = load(at[k] + c), d1 = load(at[2 + k] + c);
        d[k] = d0, d[2 + k] = sum(d0, d1), d[4 + k] = less(d0, d1), d[6 + k] = less(_mm512_setzero_ps(), d1);
    }
    for (int k = 0; k < 4; k++) {
        V16 d0 = d[2 * k], d1 = d[2 * k + 1];
        v[4 * k] = d0, v[4 * k + 1] = sum(d0, d1), v[4 * k + 2] = less(d0, d1), v[4 * k + 3] = less(_mm512_setzero_ps(), d1);
    }
    return v[5];
}

/* m (6 or fewer rows x 16 n) = v (rows x C) u (C x 16 n); u in pairs of channels, K of them in a row of u and m */
static inline __attribute__((always_inline)) void product(int rows, int n, int64_t C, int64_t K, const bf16 *v, const bf16 *u, float *m) {
    V16 acc[6][4];
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < n; k++) acc[r][k] = _mm512_setzero_ps();
    for (int64_t c = 0; c < C; c += 2) {
        __m512bh b[4];
        for (int k = 0; k < n; k++) b[k] = (__m512bh)_mm512_loadu_si512(u + c * K + 32 * k);
        for (int r = 0; r < rows; r++) {
            int32_t pair;
            memcpy(&pair, v + r * C + c, 4);
            __m512bh a = (__m512bh)_mm512_set1_epi32(pair);
            for (int k = 0; k < n; k++) acc[r][k] = _mm512_dpbf16_ps(acc[r][k], a, b[k]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < n; k++) _mm512_storeu_ps(m + r * K + 16 * k, acc[r][k]);
}

/* m (TILES x K) = v (TILES x C) u (C x K) */
static void products(int64_t C, int64_t K, const bf16 *v, const bf16 *u, float *m) {
    int64_t k = 0;
    for (; k + 64 <= K; k += 64)
        for (int64_t t = 0; t < TILES; t += 6) product(6, 4, C, K, v + t * C, u + 2 * k, m + t * K + k);
    for (; k < K; k += 16)
        for (int64_t t = 0; t < TILES; t += 6) product(6, 1, C, K, v + t * C, u + 2 * k, m + t * K + k);
}

/* y = A' m A + bias of a tile's 16 channels, to the pixels that there are */
static inline __attribute__((always_inline)) void to_output(const float *m, int64_t stride, V16 bias, bf16 **at, int64_t k) {
    V16 s[8];
    for (int j = 0; j < 4; j++) {
        V16 m0 = _mm512_loadu_ps(m + j * stride), m1 = _mm512_loadu_ps(m + (4 + j) * stride);
        V16 m2 = _mm512_loadu_ps(m + (8 + j) * stride), m3 = _mm512_loadu_ps(m + (12 + j) * stride);
        s[j] = sum(sum(m0, m1), m2), s[4 + j] = less(less(m1, m2), m3);
    }
    for (int i = 0; i < 2; i++) {
        V16 *r = s + 4 * i;
        if (at[2 * i]) store(at[2 * i] + k, sum(bias, sum(sum(r[0], r[1]), r[2])));
        if (at[2 * i + 1]) store(at[2 * i + 1] + k, sum(bias, less(less(r[1], r[2]), r[3])));
    }
}

/* G g G' of weights (K, 3, 3, C), to u (16, C / 2, K, 2); or of their adjoint, to u (16, K / 2, C, 2). */
int transform_weights(int64_t K, int64_t C, int32_t adjoint, const float *weight, bf16 *u) {
#pragma omp parallel for schedule(static)
    for (int64_t k = 0; k < K; k++)
        for (int64_t c = 0; c < C; c += 16) {
            V16 g[9], s[12], v[16], half = _mm512_set1_ps(0.5f);
            for (int q = 0; q < 9; q++) g[q] = _mm512_loadu_ps(weight + (k * 9 + (adjoint ? 8 - q : q)) * C + c);
            for (int j = 0; j < 3; j++) {
                V16 ends = sum(g[j], g[6 + j]);
                s[j] = g[j], s[9 + j] = g[6 + j];
                s[3 + j] = _mm512_mul_ps(half, sum(ends, g[3 + j])), s[6 + j] = _mm512_mul_ps(half, less(ends, g[3 + j]));
            }
            for (int i = 0; i < 4; i++) {
                V16 *r = s + 3 * i, ends = sum(r[0], r[2]);
                v[4 * i] = r[0], v[4 * i + 3] = r[2];
                v[4 * i + 1] = _mm512_mul_ps(half, sum(ends, r[1])), v[4 * i + 2] = _mm512_mul_ps(half, less(ends, r[1]));
            }
            for (int p = 0; p < POINTS; p++) {
                bf16 out[16];
                store(out, v[p]);
                bf16 *place = u + p * C * K;
                for (int q = 0; q < 16; q++)
                    if (adjoint)
                        place[(k / 2 * C + c + q) * 2 + k % 2] = out[q];
                    else
                        place[((c + q) / 2 * K + k) * 2 + (c + q) % 2] = out[q];
            }
        }
    return 0;
}

/* y (B, H, W, K) = bias + convolution of x (B, H, W, C) by transformed weights u (16, C / 2, K, 2); bias may be null.
   Returns 1 where memory is missing. */
int convolve(int64_t B, int64_t H, int64_t W, int64_t C, int64_t K, const bf16 *x, const bf16 *u, const float *bias, bf16 *y) {
    Picture p = picture(B, H, W);
    int64_t vs = TILES * C + LINE / 2, ms = TILES * K + LINE / 4;
    int failed = 0;
#pragma omp parallel
    {
        bf16 *v = aligned_alloc(LINE, POINTS * (2 * TILES * C + LINE)), *zeros = calloc(C, sizeof(bf16));
        float *m = aligned_alloc(LINE, POINTS * (4 * TILES * K + LINE));
        int ready = v && zeros && m;
        if (!ready) failed = 1;
#pragma omp for schedule(static)
        for (int64_t first = 0; first < tiles(&p); first += TILES) {
            if (!ready) continue;
            for (int64_t t = 0; t < TILES; t++) {
                const bf16 *at[16];
                pixels(&p, first + t, 4, -1, C, x, zeros, at);
                for (int64_t c = 0; c < C; c += 16) {
                    V16 w[POINTS];
                    of_input(at, c, w);
                    for (int q = 0; q < POINTS; q++) store(v + q * vs + t * C + c, w[q]);
                }
            }
            for (int q = 0; q < POINTS; q++) products(C, K, v + q * vs, u + q * C * K, m + q * ms);
            for (int64_t t = 0; t < TILES && first + t < tiles(&p); t++) {
                bf16 *at[4];
                pixels(&p, first + t, 2, 0, K, y, NULL, (const bf16 **)at);
                for (int64_t k = 0; k < K; k += 16) {
                    V16 shift = bias ? _mm512_loadu_ps(bias + k) : _mm512_setzero_ps();
                    to_output(m + t * K + k, ms, shift, at, k);
                }
            }
        }
        free(v), free(zeros), free(m);
    }
    return failed;
}

/* m (4 x 64 or 4 x 16) += v' s over pairs of tiles; a pair's C channels of v and K of s lie beside each other */
static inline __attribute__((always_inline)) void outer(int n, int64_t C, int64_t K, const int32_t *v, const bf16 *s, float *m) {
    V16 acc[4][4];
    for (int r = 0; r < 4; r++)
        for (int k = 0; k < n; k++) acc[r][k] = _mm512_loadu_ps(m + r * K + 16 * k);
    for (int64_t t = 0; t < MANY / 2; t++) {
        __m512bh b[4];
        for (int k = 0; k < n; k++) b[k] = (__m512bh)_mm512_loadu_si512(s + 2 * (t * K + 16 * k));
        for (int r = 0; r < 4; r++) {
            __m512bh a = (__m512bh)_mm512_set1_epi32(v[t * C + r]);
            for (int k = 0; k < n; k++) acc[r][k] = _mm512_dpbf16_ps(acc[r][k], a, b[k]);
        }
    }
    for (int r = 0; r < 4; r++)
        for (int k = 0; k < n; k++) _mm512_storeu_ps(m + r * K + 16 * k, acc[r][k]);
}

static inline __m512i beside(V16 a, V16 b) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(narrow(a)), _mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow(b)), 16));
}

/* The gradients of the weights (K, 3, 3, C) and the bias (K), from those of the output, dy (B, H, W, K), and the input x.
   room: threads * (16 C K + K) numbers. Returns 1 where memory is missing. */
int slopes_of_weights(int64_t B, int64_t H, int64_t W, int64_t C, int64_t K, int64_t threads, const bf16 *x, const bf16 *dy,
                      float *room, float *dweight, float *dbias) {
    Picture p = picture(B, H, W);
    int64_t vs = MANY / 2 * C + LINE / 4, ss = MANY / 2 * K + LINE / 4;
    int64_t size = POINTS * C * K + K, blocks = (tiles(&p) + MANY - 1) / MANY;
    int failed = 0;
#pragma omp parallel for schedule(static, 1)
    for (int64_t thread = 0; thread < threads; thread++) {
        int32_t *v = aligned_alloc(LINE, POINTS * vs * 4), *s = aligned_alloc(LINE, POINTS * ss * 4);
        bf16 *zeros = calloc(C > K ? C : K, sizeof(bf16));
        float *m = room + thread * size, *total = m + POINTS * C * K;
        memset(m, 0, size * sizeof(float));
        if (!v || !s || !zeros) failed = 1;
        for (int64_t block = blocks * thread / threads; !failed && block < blocks * (thread + 1) / threads; block++) {
            for (int64_t t = 0; t < MANY; t += 2) {
                const bf16 *at[2][16];
                V16 w[2][POINTS];
                for (int64_t i = 0; i < 2; i++) pixels(&p, block * MANY + t + i, 4, -1, C, x, zeros, at[i]);
                for (int64_t c = 0; c < C; c += 16) {
                    for (int i = 0; i < 2; i++) of_input(at[i], c, w[i]);
                    for (int q = 0; q < POINTS; q++)
                        _mm512_storeu_si512(v + q * vs + t / 2 * C + c, beside(w[0][q], w[1][q]));
                }
                for (int64_t i = 0; i < 2; i++) pixels(&p, block * MANY + t + i, 2, 0, K, dy, zeros, at[i]);
                for (int64_t k = 0; k < K; k += 16) {
                    V16 seen = sum(of_slope(at[0], k, w[0]), of_slope(at[1], k, w[1]));
                    _mm512_storeu_ps(total + k, sum(_mm512_loadu_ps(total + k), seen));
                    for (int q = 0; q < POINTS; q++)
                        _mm512_storeu_si512(s + q * ss + t / 2 * K + k, beside(w[0][q], w[1][q]));
                }
            }
            for (int q = 0; q < POINTS; q++) {
                const int32_t *vq = v + q * vs;
                const bf16 *sq = (const bf16 *)(s + q * ss);
                int64_t k = 0;
                for (; k + 64 <= K; k += 64)
                    for (int64_t c = 0; c < C; c += 4) outer(4, C, K, vq + c, sq + 2 * k, m + (q * C + c) * K + k);
                for (; k < K; k += 16)
                    for (int64_t c = 0; c < C; c += 4) outer(1, C, K, vq + c, sq + 2 * k, m + (q * C + c) * K + k);
            }
        }
        free(v), free(s), free(zeros);
    }
    if (failed) return 1;
    for (int64_t k = 0; k < K; k += 16) {
        V16 total = _mm512_setzero_ps();
        for (int64_t thread = 0; thread < threads; thread++)
            total = sum(total, _mm512_loadu_ps(room + thread * size + POINTS * C * K + k));
        _mm512_storeu_ps(dbias + k, total);
    }
    /* G' m G */
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < C; c++)
        for (int64_t k = 0; k < K; k += 16) {
            V16 m[16], s[12], g[9], half = _mm512_set1_ps(0.5f);
            for (int q = 0; q < POINTS; q++) {
                m[q] = _mm512_setzero_ps();
                for (int64_t thread = 0; thread < threads; thread++)
                    m[q] = sum(m[q], _mm512_loadu_ps(room + thread * size + (q * C + c) * K + k));
            }
            for (int j = 0; j < 4; j++) {
                V16 both = _mm512_mul_ps(half, sum(m[4 + j], m[8 + j])), apart = _mm512_mul_ps(half, less(m[4 + j], m[8 + j]));
                s[j] = sum(m[j], both), s[4 + j] = apart, s[8 + j] = sum(both, m[12 + j]);
            }
            for (int i = 0; i < 3; i++) {
                V16 *r = s + 4 * i;
                V16 both = _mm512_mul_ps(half, sum(r[1], r[2])), apart = _mm512_mul_ps(half, less(r[1], r[2]));
                g[3 * i] = sum(r[0], both), g[3 * i + 1] = apart, g[3 * i + 2] = sum(both, r[3]);
            }
            for (int q = 0; q < 9; q++) {
                float out[16];
                _mm512_storeu_ps(out, g[q]);
                for (int j = 0; j < 16; j++) dweight[((k + j) * 9 + q) * C + c] = out[j];
            }
        }
    return 0;
}

#else

int convolves(void) { return 0; }
int transform_weights(void) { return 1; }
int convolve(void) { return 1; }
int slopes_of_weights(void) { return 1; }

#endif
