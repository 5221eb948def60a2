#include "data/sampler.h"

#include "core/memory.h"
#include "core/rng.h"

#include <string.h>

typedef struct sampling {
    const facs_sampler_table *table;
    const facs_sampler_options *options;
    uint64_t seed;
    uint32_t epoch;
    int64_t *sorted; /* (count), rows by group, ascending within one */
    int64_t *starts; /* (count + 1), where a group begins in `sorted` */
    int64_t *marks;  /* (count), whether a row was drawn */
} sampling;

static int64_t group_of(const facs_sampler_table *table, int64_t row)
{
    return table->groups ? table->groups[row] : 0;
}

static facs_status check(const facs_sampler_table *table, const facs_sampler_options *o)
{
    if (table->count < 1) return facs_fail(FACS_E_ARG, "sampling: there are no samples");
    if (o->every < 1 || o->per_group < 0)
        return facs_fail(FACS_E_ARG,
                         "sampling: every is %lld, per_group %lld, want at least 1 and 0",
                         (long long)o->every, (long long)o->per_group);
    for (int64_t i = 0; i < table->count; i++)
        if (group_of(table, i) < 0 || group_of(table, i) >= table->count)
            return facs_fail(FACS_E_ARG, "sampling: row %lld is of group %lld, want 0 to %lld",
                             (long long)i, (long long)table->groups[i],
                             (long long)table->count - 1);
    return FACS_OK;
}

/* A counting sort. */
static void sort_by_group(sampling *s)
{
    const int64_t count = s->table->count;
    for (int64_t i = 0; i < count; i++) s->starts[group_of(s->table, i) + 1]++;
    for (int64_t g = 0; g < count; g++) s->starts[g + 1] += s->starts[g];
    for (int64_t i = 0; i < count; i++) s->sorted[s->starts[group_of(s->table, i)]++] = i;
    for (int64_t g = count; g > 0; g--) s->starts[g] = s->starts[g - 1];
    s->starts[0] = 0;
}

/* Keeps one of `every` consecutive rows, then at most per_group; marks what is left. */
static void thin(sampling *s, int64_t group)
{
    const int64_t every = s->options->every, most = s->options->per_group;
    int64_t *rows = s->sorted + s->starts[group];
    const int64_t count = s->starts[group + 1] - s->starts[group];
    facs_rng rng = facs_rng_stream(s->seed, FACS_RNG_SAMPLE, s->epoch, (uint32_t)group);
    int64_t kept = 0;
    for (int64_t first = 0; first < count; first += every) {
        const int64_t block = count - first < every ? count - first : every;
        rows[kept++] = rows[first + facs_rng_below(&rng, (uint32_t)block)];
    }
    if (most && kept > most) {
        facs_rng_shuffle(&rng, rows, kept);
        kept = most;
    }
    for (int64_t i = 0; i < kept; i++) s->marks[rows[i]] = 1;
}

/* Class `label_count` are the rows without a positive. */
static int is_of_class(const facs_sampler_table *table, int64_t row, int class)
{
    const float *labels = table->labels + row * table->label_count;
    if (class < table->label_count) return labels[class] == 1;
    for (int k = 0; k < table->label_count; k++)
        if (labels[k] == 1) return 0;
    return 1;
}

/* The rows of a class among `rows`, to `members`; returns how many. */
static int64_t collect(const sampling *s, int class, const int64_t *rows, int64_t count,
                       int64_t *members)
{
    int64_t number = 0;
    for (int64_t i = 0; i < count; i++)
        if (is_of_class(s->table, rows[i], class)) members[number++] = rows[i];
    return number;
}

/* Replaces `count` rows by as many, each class having its share: its rows are shuffled and
 * dealt until they are used up, and again. One more goes to some of the classes, in turns over
 * the epochs. */
static void balance(sampling *s, int64_t *rows, int64_t count)
{
    int64_t *members = s->sorted, *pool = s->marks, classes = 0, rank = 0, filled = 0;
    memcpy(pool, rows, (size_t)count * sizeof *pool);
    for (int c = 0; c <= s->table->label_count; c++)
        classes += collect(s, c, pool, count, members) > 0;
    for (int c = 0; c <= s->table->label_count; c++) {
        const int64_t number = collect(s, c, pool, count, members);
        if (!number) continue;
        const int64_t turn = (rank++ + s->epoch) % classes;
        const int64_t share = count / classes + (turn < count % classes);
        facs_rng rng = facs_rng_stream(s->seed, FACS_RNG_SAMPLE, s->epoch,
                                       (uint32_t)(s->table->count + c));
        for (int64_t i = 0; i < share; i++) {
            if (i % number == 0) facs_rng_shuffle(&rng, members, number);
            rows[filled++] = members[i % number];
        }
    }
}

static void draw(sampling *s, int64_t *rows, int64_t *drawn)
{
    sort_by_group(s);
    for (int64_t group = 0; group < s->table->count; group++) thin(s, group);
    *drawn = 0;
    for (int64_t i = 0; i < s->table->count; i++)
        if (s->marks[i]) rows[(*drawn)++] = i;
    if (s->options->balanced) balance(s, rows, *drawn);
}

facs_status facs_sampler_draw(int64_t *rows, int64_t *drawn, const facs_sampler_table *table,
                              const facs_sampler_options *options, uint64_t seed,
                              uint32_t epoch)
{
    const size_t count = (size_t)table->count;
    sampling s = {.table = table, .options = options, .seed = seed, .epoch = epoch};

    FACS_TRY(check(table, options));
    FACS_TRY(facs_allocate(&s.sorted, 3 * count + 1, sizeof *s.sorted, "sampling"));
    s.marks = s.sorted + count;
    s.starts = s.marks + count;
    draw(&s, rows, drawn);
    facs_free(s.sorted);
    return FACS_OK;
}
