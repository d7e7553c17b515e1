/* The layers of the prior that all slices of a position share, as coding.Coding goes through them. */

#pragma once

#include "products.h"

/* A map's shared layers, and what its cells hold. */
typedef struct {
    const Linear *context, *const *spatial, *const *pointwise, *last;
    const int8_t *inputs;         /* (cells, channels) */
    uint8_t *const *activations;  /* of each layer (cells, width) */
    const int64_t *context_taps, *spatial_taps;
    int64_t layers, cells, context_tap_count, spatial_tap_count;
} Network;

/* What is remembered of positions, if anything is: activations of one plain map (positions, width) after
 * the other, before each layer, in the midst of each, and after the last.  Places are those of rows. */
typedef struct {
    uint8_t *maps;
    int64_t positions;
    const int64_t *places;
} Gates;

INLINE Gates gates_from(Gates gates, int64_t n)
{
    if (gates.maps)
        gates.places += n;
    return gates;
}

/* Where a row's activations of a map are remembered. */
INLINE uint8_t *gate(const Gates *gates, int64_t map, int64_t row, int64_t width)
{
    return gates->maps + (map * gates->positions + gates->places[row]) * width;
}

/* The cell a tap away, around the ends. */
INLINE int64_t neighbour(int64_t cell, int64_t tap, int64_t cells)
{
    const int64_t found = cell + tap;
    return found < 0 ? found + cells : found >= cells ? found - cells : found;
}

/* Sets inputs beyond some rows, up to a multiple of ROWS, and beyond the last one of a row, which
 * count nothing, to something. */
INLINE void clear(const Linear *layer, void *rows, int64_t count)
{
    const int64_t width = stride(layer), size = layer->bytes ? 1 : sizeof(float);
    memset((char *)rows + count * width * size, 0, (size_t)((whole(count) - count) * width * size));
    for (int64_t r = 0; r < count && width > layer->inputs; r++)
        memset((char *)rows + r * width + layer->inputs, 0, (size_t)(width - layer->inputs));
}

/* A layer's inputs, numbers of neighbours side by side, for a multiple of ROWS.  The numbers are
 * bytes; a sign is 0 or SIGN, of those that have one. */
INLINE void gather(const Linear *layer, const uint8_t *table, uint8_t sign, int64_t cell_count,
                   const int64_t *cells, int64_t rows, const int64_t *taps, int64_t tap_count,
                   void *out)
{
    const int64_t channels = layer->inputs / tap_count, width = stride(layer);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t t = 0; t < tap_count; t++) {
            const uint8_t *from = table + neighbour(cells[r], taps[t], cell_count) * channels;
            const int64_t to = r * width + t * channels;
            if (layer->bytes)
                for (int64_t c = 0; c < channels; c++)
                    ((uint8_t *)out)[to + c] = from[c] ^ sign;
            else
                for (int64_t c = 0; c < channels; c++)
                    ((float *)out)[to + c] = (float)((from[c] ^ sign) - sign);
        }
    clear(layer, out, rows);
}

INLINE uint8_t activation(double x)
{
    return (uint8_t)clamp(x, 0, ACTIVATION_LEVELS);
}

/* What a position's residual comes to before the next layer: activations, stored in its cell. */
INLINE void activate(const double *f, int64_t width, uint8_t *out)
{
    for (int64_t c = 0; c < width; c++)
        out[c] = activation(f[c] * 0x1p-5);
}

/* The first layer: f = context of the inputs + start, and the activations that are seen next. */
INLINE void begin(const Network *net, const int64_t *cells, int64_t rows, const double *start,
                  double *f, float *scratch, Gates gates)
{
    const Linear *layer = net->context;
    const int64_t taps = net->context_tap_count, width = layer->outputs;
    float *sums = scratch + BATCH * multiple(layer->inputs, QUAD);
    gather(layer, (const uint8_t *)net->inputs, SIGN, net->cells, cells, rows, net->context_taps, taps,
           scratch);
    product(layer, scratch, whole(rows), sums);
    for (int64_t r = 0; r < rows; r++, sums += padded(width), f += width, start += width) {
        for (int64_t c = 0; c < width; c++)
            f[c] = floor(sums[c] * layer->scale[c] + layer->offset[c]) + start[c];
        activate(f, width, net->activations[0] + cells[r] * width);
        if (gates.maps)
            activate(f, width, gate(&gates, 0, r, width));
    }
}

/* A residual layer: f += pointwise(spatial(activations)), then the activations that are seen next or,
 * after the last layer, in `out` what all slices share. */
INLINE void add(const Network *net, int64_t index, const int64_t *cells, int64_t rows, double *f,
                double *out, float *scratch, Gates gates)
{
    const Linear *spatial = net->spatial[index], *pointwise = net->pointwise[index];
    const Linear *last = net->last;
    const int64_t width = pointwise->outputs, middle = spatial->outputs;
    float *inner = scratch + BATCH * multiple(spatial->inputs, QUAD);
    float *active = inner + BATCH * multiple(middle, QUAD), *sums = active + BATCH * multiple(width, QUAD);
    gather(spatial, net->activations[index], 0, net->cells, cells, rows, net->spatial_taps,
           net->spatial_tap_count, scratch);
    product(spatial, scratch, whole(rows), sums);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < middle; c++) {
            const uint8_t value =
                activation(sums[r * padded(middle) + c] * spatial->scale[c] + spatial->offset[c]);
            set(pointwise, inner, r, c, value);
            if (gates.maps)
                gate(&gates, net->layers + index, r, middle)[c] = value;
        }
    clear(pointwise, inner, rows);
    product(pointwise, inner, whole(rows), sums);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++) {
            double *to = f + r * width + c;
            *to += floor(sums[r * padded(width) + c] * pointwise->scale[c] + pointwise->offset[c]);
        }
    if (gates.maps)
        for (int64_t r = 0; r < rows; r++)
            activate(f + r * width, width,
                     gate(&gates, index + 1 < net->layers ? index + 1 : 2 * net->layers, r, width));
    if (index + 1 < net->layers) {
        for (int64_t r = 0; r < rows; r++)
            activate(f + r * width, width, net->activations[index + 1] + cells[r] * width);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++)
            set(last, active, r, c, activation(f[r * width + c] * 0x1p-5));
    clear(last, active, rows);
    product(last, active, whole(rows), sums);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < last->outputs; c++)
            out[r * last->outputs + c] =
                floor(sums[r * padded(last->outputs) + c] * last->scale[c] + last->offset[c]);
}

TUNED static void run_layers(const Network *net, int64_t first, int64_t end, const int64_t *cells,
                             int64_t count, const double *start, double *f, double *out,
                             float *scratch, Gates gates)
{
    const int64_t width = net->context->outputs;
    for (int64_t layer = first; layer < end; layer++)
        for (int64_t n = 0; n < count; n += BATCH) {
            const int64_t rows = batch(n, count);
            if (layer == 0)
                begin(net, cells + n, rows, start + n * width, f + n * width, scratch,
                      gates_from(gates, n));
            else
                add(net, layer - 1, cells + n, rows, f + n * width, out + n * net->last->outputs,
                    scratch, gates_from(gates, n));
        }
}

/* Floats that layers take for each row of a batch. */
INLINE int64_t numbers_of(const Network *net)
{
    const int64_t width = padded(net->context->outputs), outputs = padded(net->last->outputs);
    int64_t numbers = multiple(net->context->inputs, QUAD) + width;
    for (int64_t i = 0; i < net->layers; i++) {
        const int64_t middle = padded(net->spatial[i]->outputs);
        const int64_t sums = larger(larger(middle, width), outputs);
        const int64_t inputs = multiple(net->spatial[i]->inputs, QUAD);
        numbers = larger(numbers, inputs + middle + width + sums);
    }
    return numbers;
}
