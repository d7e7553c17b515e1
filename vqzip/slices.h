/* A slice's codebooks: what slices.Slice and entropy.CodebookTable do with features. */

#pragma once

#include "slopes.h"

INLINE double largest_of(const double *numbers, int64_t count)
{
    double largest[DOUBLES]; /* of every so many, for one does not wait for the other */
    int64_t k = 0;
    for (int64_t i = 0; i < DOUBLES; i++)
        largest[i] = numbers[0];
    for (; k + DOUBLES <= count; k += DOUBLES)
        for (int64_t i = 0; i < DOUBLES; i++)
            largest[i] = numbers[k + i] > largest[i] ? numbers[k + i] : largest[i];
    for (; k < count; k++)
        largest[0] = numbers[k] > largest[0] ? numbers[k] : largest[0];
    for (int64_t i = 1; i < DOUBLES; i++)
        largest[0] = largest[i] > largest[0] ? largest[i] : largest[0];
    return largest[0];
}

/* What codes are chosen by, and what is found of them; NULL is what is not wanted.
 *
 * Without slopes, codes are given. */
typedef struct {
    const double *table; /* of exponentials; the entry `last` is for all beyond */
    int64_t last;
    const double *slopes, *squares; /* (count, channels), of the error */
    double rarest;                  /* logit that there is below the largest at least */
    double *weights;                /* (count * groups, size) */
    double *sums;                   /* (count * groups, SUMS), of weights: of those before the code,
                                       its own, and of all */
    int32_t *codes;                 /* (count, groups), the first of those that are equal */
    const Adaptation *adapted;      /* learns, where there are sums */
    double *base;                   /* (count, channels, 2), means and precisions without gains */
    float *costs;                   /* (positions, costs_width), by how many bits codes change with
                                       what the slice has of hidden activations, at these places */
    const int64_t *places;
    int64_t costs_width;
} Wanted;

INLINE Wanted wanted_from(Wanted wanted, const Slice *slice, const Book *book, int64_t n)
{
    if (wanted.slopes) {
        wanted.slopes += n * slice->channels;
        wanted.squares += n * slice->channels;
    }
    if (wanted.codes)
        wanted.codes += n * book->groups;
    if (wanted.weights)
        wanted.weights += n * book->groups * book->size;
    if (wanted.sums)
        wanted.sums += n * book->groups * SUMS;
    if (wanted.base)
        wanted.base += n * 2 * slice->channels;
    if (wanted.costs)
        wanted.places += n;
    return wanted;
}

INLINE void find_weights(const double *logits, double largest, int64_t size, const Wanted *wanted,
                         int32_t *entries, double *out)
{
    const double end = (double)wanted->last;
    for (int64_t k = 0; k < size; k++) {
        const double below = largest - logits[k];
        entries[k] = (int32_t)(below < end ? below : end);
    }
    for (int64_t k = 0; k < size; k++)
        out[k] = wanted->table[entries[k]];
}

INLINE void find_sums(const double *weights, int64_t size, int32_t code, double *sums)
{
    double before = 0, all = 0;
    for (int64_t k = 0; k < code; k++)
        before += weights[k];
    for (int64_t k = 0; k < size; k++)
        all += weights[k];
    sums[0] = before;
    sums[1] = weights[code];
    sums[2] = all;
}

/* Code of the largest sum of closeness, which is changed, and logit. */
INLINE int32_t best_of(const double *logits, double largest, int64_t size, double rarest,
                       double *close)
{
    for (int64_t k = 0; k < size; k++) {
        const double likely = logits[k] - largest;
        close[k] += likely < rarest ? rarest : likely;
    }
    const double most = largest_of(close, size);
    int32_t best = 0;
    while (close[best] != most)
        best++;
    return best;
}

/* Minus squared errors (rows, padded size) of a group's codewords, up to a constant. */
INLINE void find_closeness(const Slice *slice, const Book *book, int64_t group, int64_t first,
                           int64_t rows, Wanted wanted, const Scratch *s)
{
    const int64_t size = padded_doubles(book->size), dim = book->dim, terms = 2 * dim;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t d = 0; d < dim; d++) {
            const int64_t channel = (first + r) * slice->channels + group * dim + d;
            s->terms[r * terms + 2 * d] = wanted.slopes[channel];
            s->terms[r * terms + 2 * d + 1] = wanted.squares[channel];
        }
    product_of_doubles(book->squares + group * terms * size, terms, book->size, s->terms, terms,
                       whole(rows), NULL, s->close);
}

/* Gives what is wanted of `count` positions; the thread is the one that learns. */
TUNED static void run_slice(const Slice *slice, const Book *book, Known known, int64_t count,
                            Wanted wanted, Scratch s, int64_t thread)
{
    const int64_t size = padded_doubles(book->size), numbers = 2 * slice->channels;
    const Adaptation *adapted = wanted.adapted;
    for (int64_t n = 0; n < count; n += BATCH) {
        const int64_t rows = find_features(slice, known, n, count, &s);
        if (adapted)
            for (int64_t r = 0; r < rows; r++)
                adapt(adapted, slice->channels, s.features + 2 * r * numbers, s.base + r * numbers);
        if (wanted.base)
            memcpy(wanted.base + n * numbers, s.base, (size_t)(rows * numbers) * sizeof(double));
        for (int64_t g = 0; g < book->groups; g++) {
            find_logits(slice, book, adapted, g, rows, &s);
            if (wanted.slopes)
                find_closeness(slice, book, g, n, rows, wanted, &s);
            for (int64_t r = 0; r < rows; r++) {
                const int64_t row = (n + r) * book->groups + g;
                const double *logits = s.logits + r * size;
                const double largest = largest_of(logits, book->size);
                if (wanted.weights)
                    find_weights(logits, largest, book->size, &wanted, s.entries,
                                 wanted.weights + row * book->size);
                double *close = s.close + r * size;
                if (wanted.slopes)
                    wanted.codes[row] = best_of(logits, largest, book->size, wanted.rarest, close);
                if (wanted.costs)
                    s.all[r] = find_likely(logits, largest, book->size,
                                           s.likely + r * padded(book->size));
                if (wanted.sums) {
                    find_weights(logits, largest, book->size, &wanted, s.entries, close);
                    find_sums(close, book->size, wanted.codes[row], wanted.sums + row * SUMS);
                    if (adapted)
                        learn(adapted, book, thread, g, s.base + r * numbers, close,
                              wanted.sums[row * SUMS + 2], wanted.codes[row]);
                }
            }
            if (wanted.costs)
                find_slopes(slice, book, g, wanted.codes + n * book->groups, rows, &s);
        }
        if (wanted.costs)
            find_costs(slice, rows, &s, wanted.places + n, wanted.costs_width, wanted.costs);
    }
}

INLINE void look_up(const int8_t *table, int64_t groups, int64_t size, int64_t dim,
                    const int32_t *codes, int64_t count, int8_t *seen, int64_t seen_width,
                    int64_t start)
{
    for (int64_t n = 0; n < count; n++)
        for (int64_t g = 0; g < groups; g++)
            memcpy(seen + n * seen_width + start + g * dim, table + (g * size + *codes++) * dim,
                   (size_t)dim);
}
