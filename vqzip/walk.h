/* A map on its way through the prior and the choice of its codes, as choice.py wants them. */

#pragma once

#include "slices.h"

#include <sched.h>

enum { SPIN = 1 << 12 }; /* looks for other threads before they get the processor */

/* What a slice's codes are chosen by, and where they go, in arrays for all positions of a run. */
typedef struct {
    const Slice *slice;
    const Book *book;
    const int8_t *table; /* what the network sees of codewords, (groups, size, dim) */
    const double *slopes, *squares;
    double *sums; /* NULL if they are not wanted */
    int32_t *codes;
    const Adaptation *adapted; /* NULL if nothing is learned */
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
    Gates gates;
    float *costs; /* (positions, costs_width), see Wanted; NULL if they are not wanted */
    int64_t costs_width;
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
static void walk_rows(const Walk *walk, int64_t first, int64_t count, Room room, int64_t thread)
{
    const Network *net = walk->net;
    const int64_t width = net->context->outputs, channels = walk->channels;
    const int64_t coded = net->context->inputs / net->context_tap_count;
    int8_t *inputs = (int8_t *)net->inputs;
    for (int64_t n = first; n < first + count; n += BATCH) {
        const int64_t rows = batch(n, first + count);
        const int64_t *cells = walk->cells + n;
        run_layers(net, 0, net->layers + 1, cells, rows, walk->begun + n * width, room.f, room.hidden,
                   room.layers, gates_from(walk->gates, n));
        const Known known = {room.hidden, room.seen, net->last->outputs, channels};
        for (int64_t i = 0; i < walk->slices; i++) {
            const Choice *c = walk->choices[i];
            const Book *book = c->book;
            const Wanted all = {walk->table, walk->last, c->slopes, c->squares, walk->rarest,
                                NULL, c->sums, c->codes, c->adapted, NULL, walk->costs,
                                walk->gates.places, walk->costs_width};
            const Wanted wanted = wanted_from(all, c->slice, book, n);
            if (book->size > 1)
                run_slice(c->slice, book, known, rows, wanted,
                          scratch_at(c->slice, book, room.slice), thread);
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
