/* How bits of codes change with what a slice has of hidden activations, roughly: what backward.py starts
 * from. */

#pragma once

#include "features.h"

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

/* From slopes of features, gains apart, to those of hidden activations, at places of a plain map of some width. */
INLINE void find_costs(const Slice *slice, int64_t rows, const Scratch *s, const int64_t *places,
                       int64_t width, float *out)
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
            const int64_t entry = (int64_t)out[1];
            const double step =
                out[1] < high[1] ? slice->precision[entry + 1] - slice->precision[entry] : 0;
            own[1] = (float)((own[0] * mean + own[1]) * step);
            own[0] *= (float)precision;
            for (int64_t k = 0; k < 4; k++)
                own[k] = out[k] > low[k] && out[k] < high[k] ? own[k] : 0;
        }
    product(slice->back, s->slopes, whole(rows), s->sums);
    for (int64_t r = 0; r < rows; r++) {
        float *costs = out + places[r] * width + slice->start;
        for (int64_t i = 0; i < inner; i++) {
            const float hidden = s->in[r * inner + i];
            costs[i] = hidden > 0 && hidden < ACTIVATION_LEVELS ? s->sums[r * padded(inner) + i] : 0;
        }
    }
}
