/* The integer prior's inner loops: what coding.py, entropy.py and choice.py do with NumPy, without
 * its overhead for each operation, which is most of the time where a step has few positions.
 *
 * The numbers are the same to the bit: all of them are integers, or multiples of a power of two, that
 * float (below 2^24) and double (below 2^52) hold exactly, so the order of summation and fused
 * multiplications change nothing.  native.py has the same structures and says what arguments are.
 */

#include "products.h"

#include <sched.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { SPIN = 1 << 12 }; /* looks for other threads before they get the processor */

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

/* A map's shared layers, and what its cells hold. */
typedef struct {
    const Linear *context, *const *spatial, *const *pointwise, *last;
    const int8_t *inputs;         /* (cells, channels) */
    uint8_t *const *activations;  /* of each layer (cells, width) */
    const int64_t *context_taps, *spatial_taps;
    int64_t layers, cells, context_tap_count, spatial_tap_count;
} Network;

typedef struct {
    const Linear *previous, *head;
    const double *low, *high, *tail, *unit, *precision;
    int64_t channels, start; /* start: of its share of the hidden columns */
} Slice;

typedef struct {
    const double *phi, *squares; /* for each group panels of 4 * dim + 1 and 2 * dim inputs */
    int64_t groups, size, dim;
} Book;

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
                  double *f, float *scratch)
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
    }
}

/* A residual layer: f += pointwise(spatial(activations)), then the activations that are seen next or,
 * after the last layer, in `out` what all slices share. */
INLINE void add(const Network *net, int64_t index, const int64_t *cells, int64_t rows, double *f,
                double *out, float *scratch)
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
        for (int64_t c = 0; c < middle; c++)
            set(pointwise, inner, r, c,
                activation(sums[r * padded(middle) + c] * spatial->scale[c] + spatial->offset[c]));
    clear(pointwise, inner, rows);
    product(pointwise, inner, whole(rows), sums);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < width; c++) {
            double *to = f + r * width + c;
            *to += floor(sums[r * padded(width) + c] * pointwise->scale[c] + pointwise->offset[c]);
        }
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
                             float *scratch)
{
    const int64_t width = net->context->outputs;
    for (int64_t layer = first; layer < end; layer++)
        for (int64_t n = 0; n < count; n += BATCH) {
            const int64_t rows = batch(n, count);
            if (layer == 0)
                begin(net, cells + n, rows, start + n * width, f + n * width, scratch);
            else
                add(net, layer - 1, cells + n, rows, f + n * width, out + n * net->last->outputs,
                    scratch);
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
                   out + n * net->last->outputs, scratch + p * BATCH * numbers);
    }
    free(scratch);
    return 0;
}

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
    float *in, *sums;
    double *features, *logits, *terms, *close;
    int32_t *entries;
} Scratch;

INLINE size_t scratch_bytes(const Slice *slice, const Book *book)
{
    const int64_t before = slice->previous->inputs, inner = slice->previous->outputs;
    const int64_t widest = padded(larger(inner, 4 * slice->channels));
    const int64_t size = padded_doubles(book->size);
    const int64_t floats_needed = BATCH * (larger(before, inner) + widest);
    const int64_t doubles_needed = BATCH * (4 * slice->channels + 2 * book->dim + 2 * size);
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
    s.logits = s.features + BATCH * 4 * slice->channels;
    s.close = s.logits + BATCH * size;
    s.terms = s.close + BATCH * size;
    s.in = (float *)(s.terms + BATCH * 2 * book->dim);
    s.sums = s.in + BATCH * larger(before, inner);
    s.entries = (int32_t *)(s.sums + BATCH * widest);
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
        double *features = s->features + r * numbers;
        for (int64_t o = 0; o < numbers; o++)
            features[o] = clamp(floor(s->sums[r * padded(numbers) + o] * head->scale[o] +
                                      head->offset[o]),
                                slice->low[o], slice->high[o]) *
                          slice->tail[o];
        for (int64_t c = 0; c < slice->channels; c++, features += 4) {
            const double precision = slice->precision[(int32_t)features[1]];
            const double mean = clamp(floor(features[0] * slice->unit[c] + 0.5), -0x1p15, 0x1p15);
            features[0] = mean * precision * 2;
            features[1] = precision;
        }
    }
    return rows;
}

/* Logits (rows, padded size) of a group. */
INLINE void find_logits(const Slice *slice, const Book *book, int64_t group, int64_t rows,
                        const Scratch *s)
{
    const int64_t inputs = 4 * book->dim, size = padded_doubles(book->size);
    const double *phi = book->phi + group * (inputs + 1) * size;
    for (int64_t r = 0; r < whole(rows); r++)
        memcpy(s->logits + r * size, phi + inputs * size, (size_t)size * sizeof(double));
    add_product(phi, inputs, book->size, s->features + group * inputs, 4 * slice->channels, whole(rows),
                s->logits);
}

INLINE double largest_of(const double *numbers, int64_t count)
{
    double largest = numbers[0];
    for (int64_t k = 1; k < count; k++)
        largest = numbers[k] > largest ? numbers[k] : largest;
    return largest;
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
    memset(s->close, 0, (size_t)(BATCH * size) * sizeof(double));
    add_product(book->squares + group * terms * size, terms, book->size, s->terms, terms, whole(rows),
                s->close);
}

TUNED static void run_slice(const Slice *slice, const Book *book, Known known, int64_t count,
                            Wanted wanted, Scratch s)
{
    const int64_t size = padded_doubles(book->size);
    for (int64_t n = 0; n < count; n += BATCH) {
        const int64_t rows = find_features(slice, known, n, count, &s);
        for (int64_t g = 0; g < book->groups; g++) {
            find_logits(slice, book, g, rows, &s);
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
                if (wanted.sums) {
                    find_weights(logits, largest, book->size, &wanted, s.entries, close);
                    find_sums(close, book->size, wanted.codes[row], wanted.sums + row * SUMS);
                }
            }
        }
    }
}

/* Weights of a slice's codewords, and sums for codes. */
int vqzip_slice(const Slice *slice, const Book *book, const double *hidden, int64_t hidden_width,
                const int8_t *seen, int64_t seen_width, int64_t count, const double *table,
                int64_t last, double *weights, double *sums, int32_t *codes, int64_t threads)
{
    const Known known = {hidden, seen, hidden_width, seen_width};
    const Wanted wanted = {table, last, NULL, NULL, 0, weights, sums, codes};
    const int pieces = pieces_of(count, threads);
    const size_t bytes = scratch_bytes(slice, book);
    char *room = calloc((size_t)pieces, bytes);
    if (!room)
        return 1;
#pragma omp parallel for num_threads(pieces) if (pieces > 1)
    for (int p = 0; p < pieces; p++) {
        const int64_t n = piece_start(p, pieces, count), stop = piece_start(p + 1, pieces, count);
        run_slice(slice, book, known_from(known, n), stop - n, wanted_from(wanted, slice, book, n),
                  scratch_at(slice, book, room + (size_t)p * bytes));
    }
    free(room);
    return 0;
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

/* What the network sees of codes (count, groups), set in `seen` (count, seen_width) from `start` on;
 * the table is (groups, size, dim). */
int vqzip_look_up(const int8_t *table, int64_t groups, int64_t size, int64_t dim,
                  const int32_t *codes, int64_t count, int8_t *seen, int64_t seen_width, int64_t start)
{
    look_up(table, groups, size, dim, codes, count, seen, seen_width, start);
    return 0;
}

/* What a slice's codes are chosen by, and where they go, in arrays for all positions of a run. */
typedef struct {
    const Slice *slice;
    const Book *book;
    const int8_t *table; /* what the network sees of codewords, (groups, size, dim) */
    const double *slopes, *squares;
    double *sums; /* NULL if they are not wanted */
    int32_t *codes;
    int64_t first; /* column of what is seen */
} Choice;

/* A map on its way through the prior and the choice of its codes. */
typedef struct {
    const Network *net;
    const Choice *const *choices;
    int64_t slices, channels;
    const int64_t *cells; /* of a run */
    const double *begun;  /* (cells, width), what positions start from */
    const double *table;
    int64_t last;
    double rarest;
} Walk;

/* Room for a thread's work on BATCH positions. */
typedef struct {
    double *f, *hidden;
    void *slice;
    float *layers;
    int8_t *seen;
} Room;

INLINE size_t room_bytes(const Walk *walk, size_t *slice)
{
    const Network *net = walk->net;
    *slice = 0;
    for (int64_t i = 0; i < walk->slices; i++) {
        const size_t needed = scratch_bytes(walk->choices[i]->slice, walk->choices[i]->book);
        *slice = needed > *slice ? needed : *slice;
    }
    *slice = (*slice + 63) / 64 * 64;
    const size_t doubles_needed = (size_t)(BATCH * (net->context->outputs + net->last->outputs));
    const size_t all = doubles_needed * sizeof(double) + *slice +
                       (size_t)(BATCH * numbers_of(net)) * sizeof(float) +
                       (size_t)(BATCH * walk->channels);
    return (all + 63) / 64 * 64;
}

INLINE Room room_at(const Walk *walk, char *at, size_t slice)
{
    Room room;
    room.slice = at;
    room.f = (double *)(at + slice);
    room.hidden = room.f + BATCH * walk->net->context->outputs;
    room.layers = (float *)(room.hidden + BATCH * walk->net->last->outputs);
    room.seen = (int8_t *)(room.layers + BATCH * numbers_of(walk->net));
    return room;
}

/* Codes for positions of one step, which do not depend on each other, from the row `first` on. */
static void walk_rows(const Walk *walk, int64_t first, int64_t count, Room room)
{
    const Network *net = walk->net;
    const int64_t width = net->context->outputs, channels = walk->channels;
    const int64_t coded = net->context->inputs / net->context_tap_count;
    int8_t *inputs = (int8_t *)net->inputs;
    for (int64_t n = first; n < first + count; n += BATCH) {
        const int64_t rows = batch(n, first + count);
        const int64_t *cells = walk->cells + n;
        run_layers(net, 0, net->layers + 1, cells, rows, walk->begun + n * width, room.f, room.hidden,
                   room.layers);
        const Known known = {room.hidden, room.seen, net->last->outputs, channels};
        for (int64_t i = 0; i < walk->slices; i++) {
            const Choice *c = walk->choices[i];
            const Book *book = c->book;
            const Wanted all = {walk->table, walk->last, c->slopes, c->squares, walk->rarest,
                                NULL, c->sums, c->codes};
            const Wanted wanted = wanted_from(all, c->slice, book, n);
            if (book->size > 1)
                run_slice(c->slice, book, known, rows, wanted,
                          scratch_at(c->slice, book, room.slice));
            look_up(c->table, book->groups, book->size, book->dim, wanted.codes, rows, room.seen,
                    channels, c->first);
        }
        for (int64_t r = 0; r < rows; r++)
            memcpy(inputs + cells[r] * coded, room.seen + r * channels, (size_t)coded);
    }
}

/* Wait until so many have arrived, this thread among them: some microseconds, hence not asleep. */
INLINE void meet(int64_t *arrived, int64_t wanted)
{
    __atomic_add_fetch(arrived, 1, __ATOMIC_ACQ_REL);
    for (int64_t turns = 1; __atomic_load_n(arrived, __ATOMIC_ACQUIRE) < wanted; turns++)
        if (turns % SPIN == 0)
            sched_yield();
}

/* Codes of all slices, one in the context of those before, for the steps of a run that start at these
 * rows, the first of them not being the run's; `steps` is how many of them there are.
 *
 * Threads share a step, and wait for each other before the next one. */
int vqzip_walk(const Network *net, const Choice *const *choices, int64_t slices, int64_t channels,
               const int64_t *cells, const double *begun, const int64_t *starts, int64_t steps,
               const double *table, int64_t last, double rarest, int64_t threads)
{
    const Walk walk = {net, choices, slices, channels, cells, begun, table, last, rarest};
    size_t slice;
    const size_t bytes = room_bytes(&walk, &slice);
    char *rooms = aligned_alloc(64, (size_t)threads * bytes);
    if (!rooms)
        return 1;
    memset(rooms, 0, (size_t)threads * bytes);
    int64_t arrived = 0;
#pragma omp parallel num_threads((int)threads) if (threads > 1)
    {
        int64_t together;
        const int64_t p = thread_of(&together);
        const Room room = room_at(&walk, rooms + (size_t)p * bytes, slice);
        for (int64_t s = 0; s < steps; s++) {
            const int64_t count = starts[s + 1] - starts[s];
            const int pieces = pieces_of(count, together);
            if (p < pieces) {
                const int64_t n = piece_start(p, pieces, count);
                walk_rows(&walk, starts[s] + n, piece_start(p + 1, pieces, count) - n, room);
            }
            meet(&arrived, (s + 1) * together);
        }
    }
    free(rooms);
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

