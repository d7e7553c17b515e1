/* The layers of a slice and its codebooks: what slices.Slice and entropy.CodebookTable do. */

#pragma once

#include "adaptation.h"
#include "layers.h"

typedef struct {
    const Linear *previous, *head, *back; /* back: from slopes of the head's outputs to its inputs */
    const double *low, *high, *tail, *unit, *precision;
    int64_t channels, start; /* start: of its share of the hidden columns */
} Slice;

/* Positions whose codewords a slice looks at: what is known of them. */
typedef struct {
    const double *hidden;
    const int8_t *seen;
    int64_t hidden_width, seen_width;
} Known;

INLINE Known known_from(Known known, int64_t n)
{
    known.hidden += n * known.hidden_width;
    known.seen += n * known.seen_width;
    return known;
}

/* Room for a slice's work on BATCH positions. */
typedef struct {
    float *in, *sums, *slopes, *likely, *all;
    double *features, *base, *logits, *terms, *close, *outputs;
    int32_t *entries;
} Scratch;

INLINE size_t scratch_bytes(const Slice *slice, const Book *book)
{
    const int64_t before = slice->previous->inputs, inner = slice->previous->outputs;
    const int64_t widest = padded(larger(inner, 4 * slice->channels));
    const int64_t size = padded_doubles(book->size);
    const int64_t floats_needed =
        BATCH * (larger(before, inner) + widest + 4 * slice->channels + padded(book->size) + 1);
    const int64_t doubles_needed = BATCH * (10 * slice->channels + 2 * book->dim + 2 * size);
    return (size_t)doubles_needed * sizeof(double) + (size_t)floats_needed * sizeof(float) +
           (size_t)size * sizeof(int32_t);
}

INLINE Scratch scratch_at(const Slice *slice, const Book *book, void *room)
{
    const int64_t before = slice->previous->inputs, inner = slice->previous->outputs;
    const int64_t widest = padded(larger(inner, 4 * slice->channels));
    const int64_t size = padded_doubles(book->size);
    Scratch s;
    s.features = room;
    s.base = s.features + BATCH * 4 * slice->channels;
    s.logits = s.base + BATCH * 2 * slice->channels;
    s.close = s.logits + BATCH * size;
    s.terms = s.close + BATCH * size;
    s.outputs = s.terms + BATCH * 2 * book->dim;
    s.in = (float *)(s.outputs + BATCH * 4 * slice->channels);
    s.sums = s.in + BATCH * larger(before, inner);
    s.slopes = s.sums + BATCH * widest;
    s.likely = s.slopes + BATCH * 4 * slice->channels;
    s.all = s.likely + BATCH * padded(book->size);
    s.entries = (int32_t *)(s.all + BATCH);
    return s;
}

/* Features (rows, channels, 4) of a slice for the batch that begins at `first`; returns its rows. */
INLINE int64_t find_features(const Slice *slice, Known known, int64_t first, int64_t count,
                             const Scratch *s)
{
    const int64_t rows = batch(first, count);
    known = known_from(known, first);
    const Linear *previous = slice->previous, *head = slice->head;
    const int64_t before = previous->inputs, inner = previous->outputs;
    const int64_t numbers = 4 * slice->channels;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < before; i++)
            s->in[r * before + i] = known.seen[r * known.seen_width + i];
    product(previous, s->in, whole(rows), s->sums);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t o = 0; o < inner; o++)
            s->in[r * inner + o] =
                activation(known.hidden[r * known.hidden_width + slice->start + o] * 0x1p-5 +
                           s->sums[r * padded(inner) + o] * previous->scale[o] + previous->offset[o]);
    product(head, s->in, whole(rows), s->sums);
    for (int64_t r = 0; r < rows; r++) {
        double *features = s->features + r * numbers, *outputs = s->outputs + r * numbers;
        for (int64_t o = 0; o < numbers; o++) {
            outputs[o] = clamp(floor(s->sums[r * padded(numbers) + o] * head->scale[o] + head->offset[o]),
                               slice->low[o], slice->high[o]);
            features[o] = outputs[o] * slice->tail[o];
        }
        for (int64_t c = 0; c < slice->channels; c++, features += 4) {
            const double precision = slice->precision[(int32_t)features[1]];
            const double mean = clamp(floor(features[0] * slice->unit[c] + 0.5), -MEAN_MAX, MEAN_MAX);
            features[0] = mean * precision * 2;
            features[1] = precision;
        }
    }
    return rows;
}

/* Logits (rows, padded size) of a group. */
INLINE void find_logits(const Slice *slice, const Book *book, const Adaptation *adapted,
                        int64_t group, int64_t rows, const Scratch *s)
{
    const int64_t inputs = 4 * book->dim, size = padded_doubles(book->size);
    const double *phi = book->phi + group * (inputs + 1) * size;
    const double *start = adapted ? adapted->start + group * size : phi + inputs * size;
    product_of_doubles(phi, inputs, book->size, s->features + group * inputs, 4 * slice->channels,
                       whole(rows), start, s->logits);
}

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

/* How likely codewords are, roughly, zeros up to the padded size; returns the sum. */
INLINE float find_likely(const double *logits, double largest, int64_t size, float *likely)
{
    float all = 0;
    for (int64_t k = 0; k < size; k++)
        likely[k] = (float)(logits[k] - largest);
    for (int64_t k = 0; k < size; k++) {
        likely[k] = quick_exp2(likely[k] * 0x1p-8f);
        all += likely[k];
    }
    for (int64_t k = size; k < padded(size); k++)
        likely[k] = 0;
    return all;
}

/* How the bits of a group's codes change with features: the mean of phi over codewords, by how likely
 * they are (rows, padded size), in what all of them are, less that of the code.  In 1/256 bits. */
INLINE void find_slopes(const Slice *slice, const Book *book, int64_t group, const int32_t *codes,
                        int64_t rows, const Scratch *s)
{
    const int64_t inputs = 4 * book->dim, size = padded(book->size);
    const float *phi = book->rows + group * inputs * size;
    for (int64_t i = 0; i < inputs; i++, phi += size)
        for (int64_t n = 0; n < rows; n += ROWS) {
            floats sums[ROWS] = {0};
            for (int64_t k = 0; k < size; k += FLOATS) {
                const floats *row = (const floats *)(phi + k);
                for (int r = 0; r < ROWS; r++)
                    for (int64_t j = 0; j < VECTORS; j++)
                        sums[r] += ((const floats *)(s->likely + (n + r) * size + k))[j] * row[j];
            }
            for (int r = 0; r < ROWS && n + r < rows; r++) {
                float sum = 0;
                for (int64_t j = 0; j < (int64_t)(sizeof sums[r] / sizeof sum); j++)
                    sum += sums[r][j];
                s->slopes[4 * (n + r) * slice->channels + group * inputs + i] =
                    sum / s->all[n + r] - phi[codes[(n + r) * book->groups + group]];
            }
        }
}

/* From slopes of features to those of a position's hidden activations. */
INLINE void find_costs(const Slice *slice, int64_t rows, Wanted wanted, const Scratch *s)
{
    const int64_t inner = slice->head->inputs, numbers = 4 * slice->channels;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < slice->channels; c++) {
            const int64_t n = r * numbers + 4 * c;
            const double *out = s->outputs + n;
            float *own = s->slopes + n;
            const double *low = slice->low + 4 * c, *high = slice->high + 4 * c;
            const double precision = s->features[n + 1];
            const double mean = precision ? s->features[n] / precision : 0; /* two of it */
            const int32_t entry = (int32_t)out[1] - (out[1] >= high[1]);
            const double step = slice->precision[entry + 1] - slice->precision[entry];
            own[1] = (float)((own[0] * mean + own[1]) * step);
            own[0] *= (float)precision;
            for (int64_t k = 0; k < 4; k++)
                own[k] = out[k] > low[k] && out[k] < high[k] ? own[k] : 0;
        }
    product(slice->back, s->slopes, whole(rows), s->sums);
    for (int64_t r = 0; r < rows; r++) {
        float *costs = wanted.costs + wanted.places[r] * wanted.costs_width + slice->start;
        for (int64_t i = 0; i < inner; i++) {
            const float hidden = s->in[r * inner + i];
            costs[i] = hidden > 0 && hidden < ACTIVATION_LEVELS ? s->sums[r * padded(inner) + i] : 0;
        }
    }
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
            find_costs(slice, rows, wanted_from(wanted, slice, book, n), &s);
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
