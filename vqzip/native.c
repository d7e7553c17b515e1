/* The integer prior's inner loops: what coding.py, entropy.py and choice.py do with NumPy, without
 * its overhead for each operation, which is most of the time where a step has few positions.
 *
 * The numbers are the same to the bit: all of them are integers, or multiples of a power of two, that
 * float (below 2^24) and double (below 2^52) hold exactly, so the order of summation and fused
 * multiplications change nothing.  native.py has the same structures and says what arguments are.
 * Only what encoding looks through, rough.h and slopes.h, and pixels, filter.h, do not have to be exact.
 */

#include "filter.h"
#include "rough.h"
#include "walk.h"

#ifdef _OPENMP
#include <omp.h>
#endif

/* Which of the threads that work together this is, and how many they are. */
INLINE int64_t thread_of(int64_t *threads)
{
#ifdef _OPENMP
    *threads = omp_get_num_threads();
    return omp_get_thread_num();
#else
    *threads = 1;
    return 0;
#endif
}

/* Layers from `first` on up to `end` for some cells: 0 is the first one, i + 1 the residual layer i.
 *
 * Threads do not wait for each other: several layers at once are for cells that do not depend on each
 * other. */
int vqzip_layers(const Network *net, int64_t first, int64_t end, const int64_t *cells, int64_t count,
                 const double *start, double *f, double *out, int64_t threads)
{
    const int64_t width = net->context->outputs, numbers = numbers_of(net);
    const int pieces = pieces_of(count, threads);
    float *scratch = malloc((size_t)(pieces * BATCH * numbers) * sizeof *scratch);
    if (!scratch)
        return 1;
#pragma omp parallel for num_threads(pieces) if (pieces > 1)
    for (int p = 0; p < pieces; p++) {
        const int64_t n = piece_start(p, pieces, count), stop = piece_start(p + 1, pieces, count);
        run_layers(net, first, end, cells + n, stop - n, start + n * width, f + n * width,
                   out + n * net->last->outputs, scratch + p * BATCH * numbers, (Gates){NULL, 0, NULL});
    }
    free(scratch);
    return 0;
}

/* Weights of a slice's codewords, and sums for codes, from which `adapted` learns. */
int vqzip_slice(const Slice *slice, const Book *book, const double *hidden, int64_t hidden_width,
                const int8_t *seen, int64_t seen_width, int64_t count, const double *table,
                int64_t last, double *weights, double *sums, int32_t *codes,
                const Adaptation *adapted, double *base, int64_t threads)
{
    const Known known = {hidden, seen, hidden_width, seen_width};
    const Wanted wanted = {table, last, NULL, NULL, 0, weights, sums, codes, adapted, base,
                           NULL, NULL, 0};
    const int pieces = pieces_of(count, threads);
    const size_t bytes = scratch_bytes(slice, book);
    char *room = calloc((size_t)pieces, bytes);
    if (!room)
        return 1;
#pragma omp parallel for num_threads(pieces) if (pieces > 1)
    for (int p = 0; p < pieces; p++) {
        const int64_t n = piece_start(p, pieces, count), stop = piece_start(p + 1, pieces, count);
        run_slice(slice, book, known_from(known, n), stop - n, wanted_from(wanted, slice, book, n),
                  scratch_at(slice, book, room + (size_t)p * bytes), p);
    }
    free(room);
    return 0;
}

/* Learn from codes (count, groups) of a slice that had these weights (count * groups, size), given
 * means and precisions (count, channels, 2).  Weights are used up. */
int vqzip_learn(const Adaptation *adapted, const Book *book, const double *base,
                double *weights, const int32_t *codes, int64_t count)
{
    const int64_t groups = book->groups, channels = groups * book->dim;
#pragma omp parallel for if (count * book->size > LEARNED)
    for (int64_t g = 0; g < groups; g++)
        learn_all(adapted, book, g, base, weights, codes, count, channels);
    return 0;
}

/* Change what follows by what has been learned. */
int vqzip_update(const Adaptation *adapted, const Book *book)
{
    update(adapted, book);
    return 0;
}

/* What the network sees of codes (count, groups), set in `seen` (count, seen_width) from `start` on;
 * the table is (groups, size, dim). */
int vqzip_look_up(const int8_t *table, int64_t groups, int64_t size, int64_t dim,
                  const int32_t *codes, int64_t count, int8_t *seen, int64_t seen_width, int64_t start)
{
    look_up(table, groups, size, dim, codes, count, seen, seen_width, start);
    return 0;
}

/* Codes of all slices, one in the context of those before, for the steps of a run that start at these
 * rows, the first of them not being the run's; `steps` is how many of them there are.
 *
 * Threads share a step, and wait for each other before the next one.  After a block of steps, some of
 * which came before, what was learned changes what follows.  Gates and costs of the run's
 * places are set if there is where. */
int vqzip_walk(const Network *net, const Choice *const *choices, int64_t slices, int64_t channels,
               const int64_t *cells, const double *begun, const int64_t *starts, int64_t steps,
               const double *table, int64_t last, double rarest, int64_t before, int64_t block,
               uint8_t *gates, int64_t positions, const int64_t *places,
               float *costs, int64_t costs_width, int64_t threads)
{
    const Walk walk = {net,  choices, slices, channels,       cells, begun,
                       table, last,    rarest, {gates, positions, places}, costs,
                       costs_width};
    size_t slice;
    const size_t bytes = room_bytes(&walk, &slice);
    int learns = 0;
    for (int64_t i = 0; i < slices; i++)
        learns |= choices[i]->adapted != NULL;
    char *rooms = aligned_alloc(64, (size_t)threads * bytes);
    if (!rooms)
        return 1;
    memset(rooms, 0, (size_t)threads * bytes);
    int64_t arrived = 0;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
    {
        int64_t together, met = 0;
        const int64_t p = thread_of(&together);
        const Room room = room_at(&walk, rooms + (size_t)p * bytes, slice);
        for (int64_t s = 0; s < steps; s++) {
            const int64_t count = starts[s + 1] - starts[s];
            const int pieces = pieces_of(count, together);
            if (p < pieces) {
                const int64_t n = piece_start(p, pieces, count);
                walk_rows(&walk, starts[s] + n, piece_start(p + 1, pieces, count) - n, room, p);
            }
            meet(&arrived, ++met * together);
            if (!learns || (before + s + 1) % block)
                continue;
            for (int64_t i = p; i < slices; i += together)
                if (choices[i]->adapted)
                    update(choices[i]->adapted, choices[i]->book);
            meet(&arrived, ++met * together);
        }
    }
    free(rooms);
    return 0;
}

/* A map (height, width, channels) through a convolution, roughly, after SiLU if it is `active`.  What
 * comes out is added to what there is if `add`.  Only where products of bytes are fast. */
int vqzip_convolve(const Convolution *layer, const float *x, int64_t height, int64_t width,
                   int64_t active, int64_t add, const uint8_t *gate, float *out, int64_t threads)
{
    Convolving c = {.layer = layer, .x = x, .height = height, .width = width};
    c.active = (int)active, c.add = (int)add, c.gate = gate, c.out = out;
    const int64_t outputs = padded(layer->outputs), inputs = layer->taps * layer->channels;
    const int64_t down = bordered(height, layer), rows = down - layer->reach;
    char *room = room_for(&c, threads);
    if (!room)
        return 1;
    prepare(&c);
#pragma omp parallel for num_threads((int)threads) if (threads > 1)
    for (int64_t p = 0; p < threads; p++)
        make_bytes(&c, down * p / threads, down * (p + 1) / threads);
#pragma omp parallel for num_threads((int)threads) if (threads > 1)
    for (int64_t p = 0; p < threads; p++)
        convolve(&c, rows * p / threads, rows * (p + 1) / threads,
                 (uint8_t *)c.weights + (outputs + p * BATCH) * inputs,
                 (float *)c.first + (1 + p * BATCH) * outputs);
    free(room);
    return 0;
}

/* An image (colours, height, width) through a filter, borders left out. */
int vqzip_filter(const Filter *filter, const float *image, int64_t height, int64_t width, float *out,
                 int64_t threads)
{
    const int64_t rows = height - 2 * REACH;
#pragma omp parallel for num_threads((int)threads) if (threads > 1)
    for (int64_t p = 0; p < threads; p++)
        filter_rows(filter, image, height, width, REACH + rows * p / threads,
                    REACH + rows * (p + 1) / threads, out);
    return 0;
}

/* Whether there is a faster way for layers of bytes here. */
int vqzip_bytes(void)
{
#ifdef BYTES
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vnni");
#else
    return 0;
#endif
}

/* Whether rows are shared out among threads. */
int vqzip_parallel(void)
{
#ifdef _OPENMP
    return 1;
#else
    return 0;
#endif
}
