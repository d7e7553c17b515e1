/* The layers of a slice, up to what logits of codewords are linear in, and these. */

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
