/* Products of small matrices with a few rows of numbers, for native.c.
 *
 * Matrices lie in panels of columns that are PANEL bytes wide, (panels, inputs, columns), the last one
 * filled up with zeros.  Those of bytes are (panels, inputs / QUAD, columns, QUAD): where the processor
 * has an instruction for it, four inputs are multiplied at once, unsigned by signed.
 */

#pragma once

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__)
#define TUNED __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define TUNED
#endif
#define INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define BYTES __attribute__((target("avx512f,avx512vnni")))
#endif

enum { SUMS = 3, QUAD = 4, SIGN = 0x80, ROWS = 3, BATCH = 36, PIECE = 6, ACTIVATION_LEVELS = 240 };
enum { PANEL = 128, FLOATS = PANEL / sizeof(float), DOUBLES = PANEL / sizeof(double), VECTORS = 4 };

typedef float floats __attribute__((vector_size(32), aligned(4), may_alias));
typedef double doubles __attribute__((vector_size(32), aligned(8), may_alias));

/* A layer has a matrix of floats or one of bytes, whose sums begin at `first`: that is how inputs that
 * have a sign can be unsigned. */
typedef struct {
    const float *matrix;
    const int8_t *bytes;
    const int32_t *first;
    const double *scale, *offset;
    int64_t inputs, outputs;
} Linear;

INLINE int64_t multiple(int64_t count, int64_t of)
{
    return (count + of - 1) / of * of;
}

/* Rows that products work on where there are so many, and columns of whole panels. */
INLINE int64_t whole(int64_t rows)
{
    return multiple(rows, ROWS);
}

INLINE int64_t padded(int64_t columns)
{
    return multiple(columns, FLOATS);
}

INLINE int64_t padded_doubles(int64_t columns)
{
    return multiple(columns, DOUBLES);
}

INLINE int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Rows of the batch that begins at `first`. */
INLINE int64_t batch(int64_t first, int64_t count)
{
    return count - first < BATCH ? count - first : BATCH;
}

/* In how many pieces rows are shared out among threads, and where a piece begins. */
INLINE int pieces_of(int64_t count, int64_t threads)
{
    return (int)larger(count / PIECE < threads ? count / PIECE : threads, 1);
}

INLINE int64_t piece_start(int64_t piece, int64_t pieces, int64_t count)
{
    return piece < pieces ? count * piece / pieces / ROWS * ROWS : count;
}

INLINE double clamp(double x, double low, double high)
{
    return x < low ? low : x > high ? high : x;
}

/* 2^x for x <= 0, to four digits; never so little that products of it are slow. */
INLINE float quick_exp2(float x)
{
    const float most = x < -60 ? -60 : x, whole = floorf(most), f = most - whole;
    const int32_t bits = ((int32_t)whole + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return power * (1 + f * (0.695976f + f * (0.224940f + f * 0.079084f)));
}

/* Numbers from a row of a layer's inputs to the next. */
INLINE int64_t stride(const Linear *layer)
{
    return layer->bytes ? multiple(layer->inputs, QUAD) : layer->inputs;
}

/* Sets an input, where inputs are bytes or floats. */
INLINE void set(const Linear *layer, void *rows, int64_t r, int64_t i, uint8_t value)
{
    if (layer->bytes)
        ((uint8_t *)rows)[r * stride(layer) + i] = value;
    else
        ((float *)rows)[r * layer->inputs + i] = value;
}

#ifdef BYTES
/* Two vectors of sums for each of some rows. */
BYTES INLINE void add_quads(const Linear *layer, const int8_t *weights, const int32_t *first,
                            const uint8_t *x, int rows, float *out)
{
    const int64_t width = stride(layer), outputs = padded(layer->outputs);
    __m512i sums[2 * ROWS][2];
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++)
            sums[r][j] = _mm512_loadu_si512(first + 16 * j);
    for (int64_t i = 0; i < width; i += QUAD, weights += PANEL)
        for (int r = 0; r < rows; r++) {
            int32_t quad;
            memcpy(&quad, x + r * width + i, sizeof quad);
            for (int j = 0; j < 2; j++)
                sums[r][j] = _mm512_dpbusd_epi32(sums[r][j], _mm512_set1_epi32(quad),
                                                 _mm512_loadu_si512(weights + 64 * j));
        }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++)
            _mm512_storeu_ps(out + r * outputs + 16 * j, _mm512_cvtepi32_ps(sums[r][j]));
}

BYTES static void product_of_bytes(const Linear *layer, const uint8_t *rows, int64_t count, float *out)
{
    const int64_t width = stride(layer), outputs = padded(layer->outputs);
    for (int64_t o = 0; o < outputs; o += FLOATS) {
        const int8_t *weights = layer->bytes + o * width;
        int64_t n = 0;
        for (; n + 2 * ROWS <= count; n += 2 * ROWS)
            add_quads(layer, weights, layer->first + o, rows + n * width, 2 * ROWS,
                      out + n * outputs + o);
        for (; n < count; n += ROWS)
            add_quads(layer, weights, layer->first + o, rows + n * width, ROWS,
                      out + n * outputs + o);
    }
}
#endif

/* The same of floats; count is a multiple of ROWS. */
INLINE void product_of_floats(const Linear *layer, const float *rows, int64_t count, float *out)
{
    const int64_t inputs = layer->inputs, outputs = padded(layer->outputs);
    for (int64_t o = 0; o < outputs; o += FLOATS)
        for (int64_t n = 0; n < count; n += ROWS) {
            const floats *weights = (const floats *)(layer->matrix + o * inputs);
            const float *x = rows + n * inputs;
            floats sums[ROWS][VECTORS] = {0};
            for (int64_t i = 0; i < inputs; i++, weights += VECTORS)
                for (int r = 0; r < ROWS; r++)
                    for (int j = 0; j < VECTORS; j++)
                        sums[r][j] += x[r * inputs + i] * weights[j];
            for (int r = 0; r < ROWS; r++)
                memcpy(out + (n + r) * outputs + o, sums[r], sizeof sums[r]);
        }
}

/* Rows (count, inputs) times the matrix, (count, padded outputs); count is a multiple of ROWS. */
INLINE void product(const Linear *layer, const void *rows, int64_t count, float *out)
{
#ifdef BYTES
    if (layer->bytes) {
        product_of_bytes(layer, rows, count, out);
        return;
    }
#endif
    product_of_floats(layer, rows, count, out);
}

/* The same of doubles for rows that are `apart` numbers apart.  Sums begin at those of a row, if there
 * is one. */
INLINE void product_of_doubles(const double *matrix, int64_t inputs, int64_t outputs, const double *rows,
                               int64_t apart, int64_t count, const double *first, double *out)
{
    const int64_t width = padded_doubles(outputs);
    for (int64_t o = 0; o < width; o += DOUBLES)
        for (int64_t n = 0; n < count; n += ROWS) {
            const doubles *weights = (const doubles *)(matrix + o * inputs);
            const double *x = rows + n * apart;
            double *target = out + n * width + o;
            doubles sums[ROWS][VECTORS] = {0};
            for (int r = 0; r < ROWS && first; r++)
                memcpy(sums[r], first + o, sizeof sums[r]);
            for (int64_t i = 0; i < inputs; i++, weights += VECTORS)
                for (int r = 0; r < ROWS; r++)
                    for (int j = 0; j < VECTORS; j++)
                        sums[r][j] += x[r * apart + i] * weights[j];
            for (int r = 0; r < ROWS; r++)
                memcpy(target + r * width, sums[r], sizeof sums[r]);
        }
}
