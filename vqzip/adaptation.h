/* What a slice learns from its codes: what adaptation.Adaptation does. */

#pragma once

#include "products.h"

/* A slice's codebooks. */
typedef struct {
    const double *phi, *squares; /* for each group panels of 4 * dim + 1 and 2 * dim inputs */
    const float *rows;           /* roughly phi, (groups, 4 * dim, padded size) */
    int64_t groups, size, dim;
} Book;

/* Tables, what is learned, and counts of which each thread has its own. */
typedef struct {
    const double *labels;           /* (groups, dim, 2, padded size), and their squares / 16 */
    const double *first;            /* (groups, padded size), what logits start from at first */
    const double *logarithms;       /* (LOGARITHMS) */
    double *start, *gains;          /* (groups, padded size), (channels, 2) */
    double *seen, *expected;        /* (threads, groups, padded size) */
    double *slopes, *squares;       /* (threads, channels, 2) */
    int64_t threads;
} Adaptation;

enum { LOGARITHMS = 1024, AS_EXPECTED = 5, TOTAL = 1 << 24, STEEPEST = 1 << 14, LONGEST = 410 };
enum { GAIN_LEAST = 1 << 11, GAIN_MOST = 1 << 13, LEARNED = 1 << 14 };
static const double INERTIA = 0x1p23, STRIDE = 0x3p19, MEAN_MAX = 0x1p15, MAX_PRECISION = 0x1p21;

/* The first two features of some channels with the gains of mean and precision; `base` is set to these
 * without gains. */
INLINE void adapt(const Adaptation *a, int64_t channels, double *features, double *base)
{
    for (int64_t c = 0; c < channels; c++, features += 4, base += 2) {
        const double *gains = a->gains + 2 * c;
        base[1] = features[1];
        base[0] = base[1] > 0 ? features[0] / (2 * base[1]) : 0;
        const double mean = floor(base[0] * gains[0] * 0x1p-12 + 0.5);
        const double precision = floor(base[1] * gains[1] * 0x1p-12);
        features[1] = precision < MAX_PRECISION ? precision : MAX_PRECISION;
        features[0] = 2 * features[1] * clamp(mean, -MEAN_MAX, MEAN_MAX);
    }
}

/* Learn from a code of a group that had these weights, `all` of them together, given means and
 * precisions without gains.  Weights are changed to how often codewords were expected, in 2^-24. */
INLINE void learn(const Adaptation *a, const Book *book, int64_t thread, int64_t group,
                  const double *base, double *weights, double all, int32_t code)
{
    const int64_t size = book->size, width = padded_doubles(size), dim = book->dim;
    const int64_t cell = (thread * book->groups + group) * width;
    double *expected = a->expected + cell;
    double whole = 0;
    const double ratio = (double)(TOTAL - size) / all;
    for (int64_t k = 0; k < size; k++) {
        weights[k] = floor(weights[k] * ratio);
        expected[k] += weights[k];
        whole += weights[k];
    }
    a->seen[cell + code] += 1;
    for (int64_t d = 0; d < dim; d++) {
        const double *label = a->labels + 2 * (group * dim + d) * width, *power = label + width;
        const double of = base[2 * (group * dim + d)], by = base[2 * (group * dim + d) + 1];
        const int64_t place = 2 * ((thread * book->groups + group) * dim + d);
        double mean = 0, square = 0;
        for (int64_t k = 0; k < size; k++) {
            mean += weights[k] * label[k];
            square += weights[k] * power[k];
        }
        const double off = whole * label[code] - mean;
        const double spread = square - whole * power[code] + 32 * of * floor(off * 0x1p-8 + 0.5);
        const double slopes[2] = {
            floor(floor(2 * of * by * 0x1p-8 + 0.5) * floor(off * 0x1p-20 + 0.5) * 0x1p-16 + 0.5),
            floor(by * floor(spread * 0x1p-16 + 0.5) * 0x1p-24 + 0.5)};
        for (int64_t i = 0; i < 2; i++) {
            const double slope = clamp(slopes[i], -STEEPEST, STEEPEST);
            a->slopes[place + i] += slope;
            a->squares[place + i] += slope * slope;
        }
    }
}

/* Learn from all of some codes (count, groups) of a group, as the first thread. */
TUNED static void learn_all(const Adaptation *a, const Book *book, int64_t group, const double *base,
                            double *weights, const int32_t *codes, int64_t count,
                            int64_t channels)
{
    for (int64_t n = 0; n < count; n++) {
        const int64_t row = n * book->groups + group;
        double *own = weights + row * book->size, all = 0;
        for (int64_t k = 0; k < book->size; k++)
            all += own[k];
        learn(a, book, 0, group, base + 2 * n * channels, own, all, codes[row]);
    }
}

/* log2 of an integer from 1 to 2^53 in 2^-12, by the ten bits after the first. */
INLINE double logarithm(const Adaptation *a, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    const int64_t exponent = (int64_t)(bits >> 52) - 1023;
    return (double)(exponent * (1 << 12)) + a->logarithms[bits >> 42 & (LOGARITHMS - 1)];
}

INLINE double over_threads(const double *numbers, int64_t apart, int64_t threads)
{
    double sum = 0;
    for (int64_t t = 0; t < threads; t++)
        sum += numbers[t * apart];
    return sum;
}

/* Change what follows by what has been learned. */
TUNED static void update(const Adaptation *a, const Book *book)
{
    const int64_t width = padded_doubles(book->size), cells = book->groups * width;
    const int64_t numbers = 2 * book->groups * book->dim;
    for (int64_t g = 0; g < book->groups; g++)
        for (int64_t n = g * width; n < g * width + book->size; n++) {
            const double seen = over_threads(a->seen + n, cells, a->threads);
            const double expected = over_threads(a->expected + n, cells, a->threads);
            const double more = logarithm(a, (seen + AS_EXPECTED) * TOTAL) -
                                logarithm(a, expected + (double)AS_EXPECTED * TOTAL);
            a->start[n] = a->first[n] + more * 0x1p-4;
        }
    for (int64_t i = 0; i < numbers; i++) {
        const double slope = over_threads(a->slopes + i, numbers, a->threads);
        const double squares = over_threads(a->squares + i, numbers, a->threads);
        const double step = floor(slope * STRIDE / (squares + INERTIA) + 0.5);
        a->gains[i] = clamp(a->gains[i] + clamp(step, -LONGEST, LONGEST), GAIN_LEAST, GAIN_MOST);
        for (int64_t t = 0; t < a->threads; t++)
            a->slopes[t * numbers + i] = 0;
    }
}
