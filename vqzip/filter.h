/* A picture's own filter: what wiener.py does with PyTorch, in one go for each strip of a row. */

#pragma once

#include "products.h"

enum { STRIP = 64, COLOURS = 3, REACH = 3, TAPS = 12, PRODUCTS = 44 };
/* Terms that are not linear, one after the other. */
enum { LIMITED = PRODUCTS, SIZES = LIMITED + TAPS * COLOURS, SHARED = SIZES + TAPS };
enum { DIFFERENCES = SHARED + PRODUCTS, NONLINEAR = DIFFERENCES + TAPS };

static const float LIMIT = 1.0f / 32, QUIET = 1.0f / 16;

/* Weights of each output colour. */
typedef struct {
    const float *bias;         /* (COLOURS) */
    const float *centre;       /* (COLOURS, COLOURS), of the pixel's own colours */
    const float *taps;         /* (COLOURS, TAPS, COLOURS), of pairs of neighbours */
    const float *others;       /* (COLOURS, NONLINEAR) */
    const int64_t *down, *across; /* (TAPS), where the second of a pair is */
} Filter;

typedef float strip[STRIP];

/* What products are, in the order of terms._products: `x` are colours, `detail` theirs. */
INLINE void make_products(const strip *x, const strip *detail, int64_t n, strip *out)
{
    for (int64_t i = 0; i < n; i++) {
        const float r = x[0][i], g = x[1][i], b = x[2][i], m = (r + g + b) / 3;
        const float dr = detail[0][i], dg = detail[1][i], db = detail[2][i], d = (dr + dg + db) / 3;
        const float pairs[6] = {r * r, r * g, r * b, g * g, g * b, b * b};
        const float tones[4] = {r, g, b, m}, sharp[4] = {4 * dr, 4 * dg, 4 * db, 4 * d};
        int at = 0;
        for (int k = 0; k < 6; k++)
            out[at++][i] = pairs[k];
        for (int k = 0; k < 3; k++)
            out[at++][i] = tones[k] * d;
        for (int k = 0; k < 4; k++)
            out[at++][i] = tones[k] * tones[k] * tones[k];
        for (int k = 0; k < 6; k++)
            out[at++][i] = pairs[k] * d;
        out[at++][i] = pairs[0] * g;
        out[at++][i] = pairs[0] * b;
        out[at++][i] = pairs[3] * r;
        out[at++][i] = pairs[3] * b;
        out[at++][i] = pairs[5] * r;
        out[at++][i] = pairs[5] * g;
        /* Chebyshev polynomials of y = 2 x. */
        for (int k = 0; k < 4; k++) {
            const float y = 4 * tones[k] * tones[k];
            out[at++][i] = 8 * y * (y - 1) + 1;
        }
        for (int k = 0; k < 4; k++) {
            const float y = 4 * tones[k] * tones[k];
            out[at++][i] = 2 * tones[k] * (4 * y * (4 * y - 5) + 5);
        }
        const float y = 4 * m * m;
        out[at++][i] = y * (y * (32 * y - 48) + 18) - 1;
        for (int k = 0; k < 3; k++)
            out[at++][i] = detail[k][i] * m;
        for (int k = 0; k < 3; k++)
            out[at++][i] = detail[k][i] * tones[k];
        for (int k = 0; k < 4; k++)
            out[at++][i] = sharp[k] * sharp[k] * sharp[k];
    }
}

INLINE float clipped(float x)
{
    const float below = x < LIMIT ? x : LIMIT;
    return below > -LIMIT ? below : -LIMIT;
}

/* What is not linear of `n` pixels of a row, in the order of terms.terms. */
INLINE void make_terms(const Filter *f, const float *image, int64_t plane, int64_t width, int64_t n,
                       const strip *x, const strip *detail, strip *out)
{
    strip activity = {0};
    for (int t = 0; t < TAPS; t++) {
        const int64_t off = f->down[t] * width + f->across[t];
        strip one = {0}, other = {0};
        for (int j = 0; j < COLOURS; j++) {
            const float *here = image + j * plane;
            for (int64_t i = 0; i < n; i++) {
                const float a = here[i + off] - here[i], b = here[i - off] - here[i];
                out[LIMITED + COLOURS * t + j][i] = clipped(a) + clipped(b);
                one[i] += a;
                other[i] += b;
            }
        }
        for (int64_t i = 0; i < n; i++) {
            out[SIZES + t][i] = (fabsf(one[i]) + fabsf(other[i])) / COLOURS;
            out[DIFFERENCES + t][i] = (one[i] + other[i]) / COLOURS;
            activity[i] += out[SIZES + t][i];
        }
    }
    make_products(x, detail, n, out);
    for (int64_t i = 0; i < n; i++)
        activity[i] = activity[i] / (activity[i] + TAPS * QUIET);
    for (int k = 0; k < PRODUCTS; k++)
        for (int64_t i = 0; i < n; i++)
            out[SHARED + k][i] = activity[i] * out[k][i];
    for (int t = 0; t < TAPS; t++)
        for (int64_t i = 0; i < n; i++)
            out[DIFFERENCES + t][i] *= activity[i];
}

/* Some pixels of a row, all of whose neighbours there are; planes of the image are `plane` apart. */
INLINE void filter_strip(const Filter *f, const float *image, int64_t plane, int64_t width, int64_t n,
                         float *out)
{
    strip around[TAPS][COLOURS], x[COLOURS], detail[COLOURS], others[NONLINEAR], sums[COLOURS];
    for (int j = 0; j < COLOURS; j++) {
        const float *here = image + j * plane;
        for (int64_t i = 0; i < n; i++)
            detail[j][i] = 0;
        for (int t = 0; t < TAPS; t++) {
            const int64_t off = f->down[t] * width + f->across[t];
            for (int64_t i = 0; i < n; i++) {
                around[t][j][i] = here[i + off] + here[i - off];
                detail[j][i] += around[t][j][i];
            }
        }
        for (int64_t i = 0; i < n; i++) {
            x[j][i] = here[i] - 0.5f;
            detail[j][i] = detail[j][i] / (2 * TAPS) - here[i];
        }
    }
    make_terms(f, image, plane, width, n, x, detail, others);
    for (int c = 0; c < COLOURS; c++) {
        for (int64_t i = 0; i < n; i++)
            sums[c][i] = f->bias[c];
        for (int j = 0; j < COLOURS; j++)
            for (int64_t i = 0; i < n; i++)
                sums[c][i] += f->centre[c * COLOURS + j] * image[j * plane + i];
        for (int t = 0; t < TAPS; t++)
            for (int j = 0; j < COLOURS; j++)
                for (int64_t i = 0; i < n; i++)
                    sums[c][i] += f->taps[(c * TAPS + t) * COLOURS + j] * around[t][j][i];
        for (int p = 0; p < NONLINEAR; p++)
            for (int64_t i = 0; i < n; i++)
                sums[c][i] += f->others[c * NONLINEAR + p] * others[p][i];
    }
    for (int c = 0; c < COLOURS; c++)
        memcpy(out + c * plane, sums[c], (size_t)n * sizeof(float));
}

/* Rows of an image (COLOURS, height, width), those along its borders left out. */
TUNED static void filter_rows(const Filter *f, const float *image, int64_t height, int64_t width,
                              int64_t y, int64_t end, float *out)
{
    for (; y < end; y++)
        for (int64_t x = REACH; x < width - REACH; x += STRIP) {
            const int64_t left = width - REACH - x, at = y * width + x;
            filter_strip(f, image + at, height * width, width, left < STRIP ? left : STRIP, out + at);
        }
}
