/* A convolution of floats in products of bytes, for what does not have to be exact: rough.py.
 *
 * Inputs and weights are rounded to bytes.  An input channel's step is the geometric mean of one that
 * suits it and one that suits its weights, so that neither large channels nor large weights leave
 * little of the others (Xiao et al. 2023, "SmoothQuant").
 */

#pragma once

#include "layers.h"

enum { LARGEST_BYTE = 255, LARGEST_WEIGHT = 127 };

/* Maps are (height, width, channels), kernels (outputs, taps, channels).  Taps come in runs of some side
 * by side, so many rows and columns from the first there may be, with a border of zeros around inputs;
 * of those there are, `reach` rows and columns are no outputs. */
typedef struct {
    const float *kernel, *bias, *largest; /* largest: of each input's weights */
    const int64_t *down, *across, *length;
    int64_t outputs, channels, taps, runs, border, reach;
} Convolution;

#define LEAST_SILU -0.2785f
#define TINY 1e-20f /* in place of nothing, to divide by */

/* x / (1 + exp(-x)) */
INLINE float silu(float x)
{
    const float e = quick_exp2((x < 0 ? x : -x) * 1.44269504f);
    return x * (x < 0 ? e : 1) / (1 + e);
}

/* Steps and zeros of an input's channels. */
INLINE void find_steps(const Convolution *layer, const float *x, int64_t count, int active,
                       float *step, float *zero, float *low, float *high)
{
    const int64_t channels = layer->channels;
    memset(low, 0, (size_t)channels * sizeof *low);
    memset(high, 0, (size_t)channels * sizeof *high);
    for (int64_t r = 0; r < count; r++, x += channels)
        for (int64_t c = 0; c < channels; c++) {
            low[c] = x[c] < low[c] ? x[c] : low[c];
            high[c] = x[c] > high[c] ? x[c] : high[c];
        }
    float widest = TINY;
    for (int64_t c = 0; c < channels; c++) {
        if (active)
            low[c] = low[c] < 0 ? LEAST_SILU : 0;
        const float range = (active ? silu(high[c]) : high[c]) - low[c] + TINY;
        step[c] = sqrtf(range / (layer->largest[c] + TINY));
        widest = range / step[c] > widest ? range / step[c] : widest;
    }
    for (int64_t c = 0; c < channels; c++) {
        step[c] *= widest / LARGEST_BYTE;
        zero[c] = floorf(-low[c] / step[c] + 0.5f);
    }
}

/* Weights in panels, for inputs in steps; scales of sums, and where sums begin. */
INLINE void pack(const Convolution *layer, const float *step, const float *zero, int8_t *bytes,
                 int32_t *first, float *scale)
{
    const int64_t taps = layer->taps, inputs = taps * layer->channels;
    for (int64_t o = 0; o < layer->outputs; o++) {
        const float *kernel = layer->kernel + o * inputs;
        int8_t *panel = bytes + o / FLOATS * FLOATS * inputs + o % FLOATS * QUAD;
        float largest = TINY, sum = 0;
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < layer->channels; c++) {
                const float size = fabsf(kernel[t * layer->channels + c] * step[c]);
                largest = size > largest ? size : largest;
            }
        const float per = LARGEST_WEIGHT / largest;
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < layer->channels; c += QUAD)
                for (int64_t k = c; k < c + QUAD; k++) {
                    const float whole = rintf(kernel[t * layer->channels + k] * step[k] * per);
                    panel[(t * layer->channels + c) / QUAD * PANEL + k - c] = (int8_t)whole;
                    sum += whole * zero[k];
                }
        first[o] = -(int32_t)sum;
        scale[o] = 1 / per;
    }
}

INLINE void rounded(const float *restrict x, int64_t count, int active, const float *restrict inverse,
                    const float *restrict zero, uint8_t *restrict out)
{
    for (int64_t c = 0; c < count; c++) {
        const float whole = (active ? silu(x[c]) : x[c]) * inverse[c] + zero[c] + 0.5f;
        out[c] = (uint8_t)(int32_t)(whole < 0 ? 0 : whole > LARGEST_BYTE ? LARGEST_BYTE : whole);
    }
}

/* A row of inputs in bytes, with borders of zeros; rows beyond the map are borders. */
INLINE void to_bytes(const Convolution *layer, const float *x, int64_t width, int inside,
                     int active, const float *inverse, const float *zero, uint8_t *out)
{
    const int64_t channels = layer->channels, border = layer->border;
    for (int64_t i = -border; i < width + border; i++, out += channels) {
        if (!inside || i < 0 || i >= width)
            for (int64_t c = 0; c < channels; c++)
                out[c] = (uint8_t)zero[c];
        else if (active)
            rounded(x + i * channels, channels, 1, inverse, zero, out);
        else
            rounded(x + i * channels, channels, 0, inverse, zero, out);
    }
}

/* Sums of products of bytes to outputs, which are added to those there are if `add`.  Where there is a
 * gate, what is behind it counts if that is an activation. */
INLINE void to_floats(const Convolution *layer, const float *sums, const float *scale, int64_t rows,
                      int add, const uint8_t *gate, float *out)
{
    const int64_t outputs = layer->outputs;
    float found[outputs];
    for (int64_t r = 0; r < rows; r++, sums += padded(outputs), out += outputs) {
        for (int64_t o = 0; o < outputs; o++)
            found[o] = sums[o] * scale[o] + layer->bias[o];
        if (gate) {
            for (int64_t o = 0; o < outputs; o++)
                found[o] = gate[o] > 0 && gate[o] < ACTIVATION_LEVELS ? found[o] : 0;
            gate += outputs;
        }
        if (add)
            for (int64_t o = 0; o < outputs; o++)
                out[o] += found[o];
        else
            memcpy(out, found, (size_t)outputs * sizeof *out);
    }
}

/* A batch of inputs, numbers of taps side by side. */
INLINE void gather_runs(const Convolution *layer, const uint8_t *from, int64_t across, int64_t rows,
                        uint8_t *out)
{
    const int64_t channels = layer->channels;
    for (int64_t r = 0; r < rows; r++, from += channels)
        for (int64_t i = 0; i < layer->runs; i++) {
            const size_t bytes = (size_t)(layer->length[i] * channels);
            memcpy(out, from + (layer->down[i] * across + layer->across[i]) * channels, bytes);
            out += bytes;
        }
}

/* What a map goes through, and room for it. */
typedef struct {
    const Convolution *layer;
    const float *x;
    int64_t height, width;
    int active, add;
    const uint8_t *gate;
    float *out, *zero, *inverse, *scale, *spare;
    int32_t *first;
    int8_t *weights;
    uint8_t *table;
} Convolving;

INLINE int64_t bordered(int64_t side, const Convolution *layer)
{
    return side + 2 * layer->border;
}

TUNED static void prepare(const Convolving *c)
{
    const int64_t channels = c->layer->channels;
    float *step = c->spare, *low = step + channels, *high = low + channels;
    find_steps(c->layer, c->x, c->height * c->width, c->active, step, c->zero, low, high);
    pack(c->layer, step, c->zero, c->weights, c->first, c->scale);
    for (int64_t i = 0; i < channels; i++)
        c->inverse[i] = 1 / step[i];
}

TUNED static void make_bytes(const Convolving *c, int64_t y, int64_t end)
{
    const int64_t border = c->layer->border, row = bordered(c->width, c->layer) * c->layer->channels;
    for (; y < end; y++) {
        const int inside = y >= border && y < c->height + border;
        const float *x = inside ? c->x + (y - border) * c->width * c->layer->channels : NULL;
        to_bytes(c->layer, x, c->width, inside, c->active, c->inverse, c->zero, c->table + y * row);
    }
}

/* Some rows of what comes out; scratch is for a batch. */
TUNED static void convolve(const Convolving *c, int64_t y, int64_t end, uint8_t *rows, float *sums)
{
    const Convolution *layer = c->layer;
    const int64_t inputs = layer->taps * layer->channels, across = bordered(c->width, layer);
    const int64_t width = across - layer->reach;
    const Linear linear = {NULL, c->weights, c->first, NULL, NULL, inputs, layer->outputs};
    for (; y < end; y++)
        for (int64_t x = 0; x < width; x += BATCH) {
            const int64_t n = batch(x, width), at = (y * width + x) * layer->outputs;
            const uint8_t *from = c->table + (y * across + x) * layer->channels;
            if (layer->taps > 1)
                gather_runs(layer, from, across, n, rows);
            product(&linear, layer->taps > 1 ? rows : from, whole(n), sums);
            to_floats(layer, sums, c->scale, n, c->add, c->gate ? c->gate + at : NULL, c->out + at);
        }
}

/* Room for it, in one piece; NULL if there is none. */
INLINE char *room_for(Convolving *c, int64_t threads)
{
    const Convolution *layer = c->layer;
    const int64_t outputs = padded(layer->outputs), channels = layer->channels;
    const int64_t inputs = layer->taps * channels;
    const int64_t cells = bordered(c->height, layer) * bordered(c->width, layer) + BATCH;
    const int64_t numbers = 5 * channels + (2 + threads * BATCH) * outputs;
    const int64_t bytes = (outputs + threads * BATCH) * inputs + cells * channels;
    char *room = malloc((size_t)numbers * sizeof(float) + (size_t)bytes);
    if (!room)
        return NULL;
    c->zero = (float *)room;
    c->inverse = c->zero + channels;
    c->spare = c->inverse + channels;
    c->scale = c->spare + 3 * channels;
    c->first = (int32_t *)(c->scale + outputs);
    c->weights = (int8_t *)(c->first + (1 + threads * BATCH) * outputs);
    c->table = (uint8_t *)c->weights + (outputs + threads * BATCH) * inputs;
    return room;
}
