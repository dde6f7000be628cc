/* The deterministic simulator: runs seeds, reports the first failure of each with the tail of its trace.
 *
 *   sim --seeds 100000 [--from N] [--jobs 2]     many; exit 1 when one fails or a table row was never taken
 *   sim --seed N [--trace]                       one, the same events in the same order each time
 *   sim --crashes [--seeds COUNT]                the leader crashes before each action of each seed's
 * failovers sim --ablate RULE …                          the same without one safety rule sim --ablations
 * [--seeds LIMIT]              each rule switched off: exit 1 unless each is noticed */
#include "tests/sim/sim.h"

#include "controller/core/failover_table.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SIM_JOBS_MAX = 16,
    SIM_FAILED_MAX = 20,
    SIM_TRACE_TAIL = 16384,
    SIM_COVERING_SEEDS = 100000, /* the rarest row (49) is taken twice in so many */
    SIM_ABLATION_SEEDS = 40000,
    SIM_CRASH_SEEDS = 140,
    SIM_CRASHES_MAX = 200
};

/* Shared by the jobs. */
struct sim_board {
    uint64_t next, end;
    uint64_t running[SIM_JOBS_MAX]; /* seed + 1 of each job; 0: none */
    struct sim_stats stats[SIM_JOBS_MAX];
    uint32_t n_failed;
    uint64_t failed[SIM_FAILED_MAX];
    enum ablation ablation;
    uint32_t enough; /* failures after which nobody goes on */
    uint64_t caught; /* ablations: lowest seed + 1 in which an invariant noticed; 0: none did */
    char invariant[64];
};

/* ---- many seeds ---------------------------------------------------------------------------------------- */

/* Which invariant noticed; the lowest seed is shown, whichever job is faster. */
static void sim_board_catch(struct sim_board *board, uint64_t seed, const char *invariant)
{
    if (board->caught != 0 && board->caught <= seed + 1)
        return;
    board->caught = seed + 1;
    memcpy(board->invariant, invariant, sizeof(board->invariant));
}

static void sim_board_fail(struct sim_board *board, uint64_t seed)
{
    uint32_t at = __atomic_fetch_add(&board->n_failed, 1, __ATOMIC_RELAXED);
    if (at < SIM_FAILED_MAX)
        board->failed[at] = seed;
}

/* That something takes for ever is noticed, too, but proves little about a rule of safety. */
static bool sim_is_safety(const char *invariant)
{
    static const char *const others[] = {"settles",  "stays settled", "progress",
                                         "deadline", "in time",       "answers"};
    for (size_t k = 0; k < sizeof(others) / sizeof(others[0]); k++) {
        if (strcmp(invariant, others[k]) == 0)
            return false;
    }
    return true;
}

/* The same seed must pass with the rule: only then it is the rule that is missed. */
static void sim_catch(struct sim *s, struct sim_board *board, uint64_t seed)
{
    char invariant[sizeof(board->invariant)];
    enum ablation ablation = s->ablation;
    memcpy(invariant, s->world.invariant, sizeof(invariant));
    s->ablation = ABLATE_NOTHING;
    if (sim_run(s, seed))
        sim_board_catch(board, seed, invariant);
    s->ablation = ablation;
}

static void sim_job(struct sim_board *board, int job)
{
    struct sim *s = sim_new(&board->stats[job]);
    s->ablation = board->ablation;
    for (;;) {
        uint64_t seed = __atomic_fetch_add(&board->next, 1, __ATOMIC_RELAXED);
        if (seed >= board->end || board->caught != 0 ||
            __atomic_load_n(&board->n_failed, __ATOMIC_RELAXED) >= board->enough)
            break;
        board->running[job] = seed + 1;
        if (sim_run(s, seed))
            continue;
        if (board->ablation == ABLATE_NOTHING)
            sim_board_fail(board, seed);
        else if (sim_is_safety(s->world.invariant))
            sim_catch(s, board, seed);
    }
    board->running[job] = 0;
    sim_free(s);
}

static pid_t sim_fork(struct sim_board *board, int job)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        /* What the core asserts is printed when the seed is run again for its trace. */
        if (!freopen("/dev/null", "w", stderr))
            _exit(2);
        sim_job(board, job);
        _exit(0);
    }
    return pid;
}

/* A job that died took its seed with it: that seed failed, the others go on in a new job. */
static void sim_run_jobs(struct sim_board *board, int jobs)
{
    pid_t pids[SIM_JOBS_MAX];
    int left = jobs;
    for (int j = 0; j < jobs; j++)
        pids[j] = sim_fork(board, j);
    while (left > 0) {
        int status = 0;
        pid_t pid = wait(&status);
        int job = 0;
        while (job < jobs && pids[job] != pid)
            job++;
        if (pid < 0 || job == jobs)
            break;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            left--;
            continue;
        }
        if (board->running[job] != 0)
            sim_board_fail(board, board->running[job] - 1);
        board->stats[job].seeds++;
        board->stats[job].failures++;
        pids[job] = sim_fork(board, job);
    }
}

static const struct world *sim_aborting;

static void sim_on_abort(int signum)
{
    (void)signum;
    world_trace_print(sim_aborting);
    _exit(3);
}

/* Runs the seed again in a process of its own, as it may abort, and prints the end of its trace. */
static void sim_explain(uint64_t seed, enum ablation ablation)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct sim_stats stats = {0};
        struct sim *s = sim_new(&stats);
        s->ablation = ablation;
        s->world.tracing = true;
        s->world.trace_room = SIM_TRACE_TAIL;
        s->world.trace = (char *)malloc(SIM_TRACE_TAIL);
        if (!s->world.trace)
            abort();
        sim_aborting = &s->world;
        (void)signal(SIGABRT, sim_on_abort);
        (void)setvbuf(stdout, NULL, _IONBF, 0);
        printf("---- seed %llu, the end of its trace\n", (unsigned long long)seed);
        (void)sim_run(s, seed);
        world_trace_print(&s->world);
        printf("seed %llu FAILED %s: %s\n", (unsigned long long)seed, s->world.invariant, s->world.failure);
        (void)fflush(stdout);
        sim_free(s);
        _exit(0);
    }
    int status = 0;
    if (waitpid(pid, &status, 0) == pid && (!WIFEXITED(status) || WEXITSTATUS(status) != 0))
        printf("seed %llu FAILED: it aborted; the assertion is on stderr\n", (unsigned long long)seed);
}

/* ---- results ------------------------------------------------------------------------------------------- */

static void sim_sum(struct sim_stats *sum, const struct sim_stats *stats)
{
    sum->seeds += stats->seeds;
    sum->failures += stats->failures;
    sum->events += stats->events;
    sum->failovers += stats->failovers;
    sum->promotions += stats->promotions;
    sum->writes += stats->writes;
    sum->refused_commits += stats->refused_commits;
    sum->waiting += stats->waiting;
    sum->full_syncs += stats->full_syncs;
    for (int k = 0; k < SIM_ROWS; k++)
        sum->rows[k] += stats->rows[k];
    for (int k = 0; k < SIM_STORIES; k++)
        sum->stories[k] += stats->stories[k];
    for (int k = 0; k <= TOPOLOGY_VERDICT_PLANNED; k++)
        sum->verdicts[k] += stats->verdicts[k];
    sum->orders += stats->orders;
    sum->answers_done += stats->answers_done;
    sum->answers_refused += stats->answers_refused;
    sum->promised += stats->promised;
    sum->logins += stats->logins;
    sum->shorts += stats->shorts;
}

/* Rows that nothing in the simulation can lead to, and why. */
static const struct {
    uint32_t row;
    const char *why;
} sim_unreachable[] = {
    {0, "no row has this number"},
};

static const char *sim_why_unreachable(uint32_t row)
{
    for (size_t k = 0; k < sizeof(sim_unreachable) / sizeof(sim_unreachable[0]); k++) {
        if (sim_unreachable[k].row == row)
            return sim_unreachable[k].why;
    }
    return NULL;
}

/* Number of rows that were never taken: each row must be reachable, or be listed with the reason. */
static uint32_t sim_print_coverage(const struct sim_stats *sum)
{
    uint32_t missing = 0;
    printf("coverage of table rows:");
    for (uint32_t k = 0; k < failover_table_rows; k++)
        printf(" %u:%llu", failover_table[k].number, (unsigned long long)sum->rows[k]);
    printf("\n");
    for (uint32_t k = 0; k < failover_table_rows; k++) {
        const char *why = sim_why_unreachable(failover_table[k].number);
        if (why)
            printf("row %u can't be taken here: %s\n", failover_table[k].number, why);
        if (why && sum->rows[k] > 0)
            printf("row %u WAS taken: take it off that list\n", failover_table[k].number);
        else if (!why && sum->rows[k] == 0)
            printf("row %u was NEVER TAKEN\n", failover_table[k].number);
        missing += (sum->rows[k] == 0) == (why == NULL);
    }
    return missing;
}

static void sim_print_sum(const struct sim_stats *sum)
{
    printf("stories:");
    for (int k = 0; k < SIM_STORIES; k++)
        printf(" %s:%llu", sim_stories[k], (unsigned long long)sum->stories[k]);
    printf("\nintents:");
    for (int k = TOPOLOGY_VERDICT_DEAD; k <= TOPOLOGY_VERDICT_PLANNED; k++)
        printf(" %s:%llu", topology_verdict_name((enum topology_verdict)k),
               (unsigned long long)sum->verdicts[k]);
    printf("\n%llu orders: %llu done, %llu refused, the rest lost with their leader\n",
           (unsigned long long)sum->orders, (unsigned long long)sum->answers_done,
           (unsigned long long)sum->answers_refused);
    printf("%llu logins of applications at fenced members\n", (unsigned long long)sum->logins);
    printf("%llu strict writes promised, %llu not acknowledged by enough replicas\n",
           (unsigned long long)sum->promised, (unsigned long long)sum->shorts);
    printf("%llu seeds, %llu failures, %llu failovers, %llu promotions, %llu events, %llu writes, %llu full "
           "synchronizations, %llu commits refused, %llu ended waiting for a dead member\n",
           (unsigned long long)sum->seeds, (unsigned long long)sum->failures,
           (unsigned long long)sum->failovers, (unsigned long long)sum->promotions,
           (unsigned long long)sum->events, (unsigned long long)sum->writes,
           (unsigned long long)sum->full_syncs, (unsigned long long)sum->refused_commits,
           (unsigned long long)sum->waiting);
}

static struct sim_board *sim_board_open(uint64_t from, uint64_t seeds, enum ablation ablation)
{
    struct sim_board *board = (struct sim_board *)mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
                                                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        (void)fprintf(stderr, "sim: no memory for the jobs: %s\n", strerror(errno));
        exit(2);
    }
    board->next = from;
    board->end = from + seeds;
    board->ablation = ablation;
    board->enough = SIM_FAILED_MAX;
    return board;
}

/* ---- what can be asked for ----------------------------------------------------------------------------- */

struct sim_wish {
    uint64_t seeds, from, jobs, seed;
    uint64_t crash_at;
    bool has_seeds, one, trace, ablations, crashes;
    enum ablation ablation;
};

static int sim_many(const struct sim_wish *wish)
{
    struct sim_board *board = sim_board_open(wish->from, wish->seeds, ABLATE_NOTHING);
    sim_run_jobs(board, (int)wish->jobs);
    struct sim_stats sum = {0};
    for (int j = 0; j < SIM_JOBS_MAX; j++)
        sim_sum(&sum, &board->stats[j]);
    uint32_t failed = board->n_failed < SIM_FAILED_MAX ? board->n_failed : SIM_FAILED_MAX;
    for (uint32_t k = 0; k < failed; k++)
        sim_explain(board->failed[k], ABLATE_NOTHING);
    uint32_t missing = sim_print_coverage(&sum);
    sim_print_sum(&sum);
    /* A few seeds can't be expected to take every row. */
    bool covered = missing == 0 || wish->seeds < SIM_COVERING_SEEDS;
    munmap(board, sizeof(*board));
    return failed == 0 && covered ? 0 : 1;
}

/* True when an invariant notices that the rule is off. */
static bool sim_ablate(const struct sim_wish *wish, enum ablation ablation)
{
    struct sim_board *board = sim_board_open(wish->from, wish->seeds, ablation);
    sim_run_jobs(board, (int)wish->jobs);
    bool caught = board->caught != 0;
    if (caught)
        printf("%-10s noticed in seed %llu by \"%s\": %s\n", ablation_word(ablation),
               (unsigned long long)board->caught - 1, board->invariant, ablation_rule(ablation));
    else
        printf("%-10s NOT NOTICED in %llu seeds (%u aborted): %s\n", ablation_word(ablation),
               (unsigned long long)wish->seeds, board->n_failed, ablation_rule(ablation));
    munmap(board, sizeof(*board));
    return caught;
}

static int sim_ablate_all(const struct sim_wish *wish)
{
    uint32_t passed = 0, failed = 0;
    for (int a = ABLATE_NOTHING + 1; a < ABLATIONS; a++) {
        bool caught = sim_ablate(wish, (enum ablation)a);
        passed += caught;
        failed += !caught;
    }
    printf("%u passed, %u failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}

/* The leader crashes before the first action of the seed's failovers, before the second, … : each moment in
 * which a successor can find its work half done. 0 when all runs pass. */
static int sim_crash_everywhere(const struct sim_wish *wish)
{
    struct sim_stats stats = {0};
    struct sim *s = sim_new(&stats);
    uint64_t runs = 0, failed = 0;
    for (uint64_t seed = wish->from; seed < wish->from + wish->seeds; seed++) {
        s->crash_at = 0;
        bool passed = sim_run(s, seed);
        uint32_t n = s->actions < SIM_CRASHES_MAX ? s->actions : SIM_CRASHES_MAX;
        for (uint32_t k = 1; passed && k <= n; k++) {
            s->crash_at = k;
            passed = sim_run(s, seed);
            runs++;
        }
        if (!passed)
            printf("seed %llu FAILED with the leader crashing before action %u: %s: %s\n",
                   (unsigned long long)seed, s->crash_at, s->world.invariant, s->world.failure);
        failed += !passed;
    }
    printf("%llu crashes of the leader, %llu seeds, %llu failovers\n", (unsigned long long)runs,
           (unsigned long long)wish->seeds, (unsigned long long)stats.failovers);
    sim_free(s);
    return failed == 0 ? 0 : 1;
}

static int sim_one(const struct sim_wish *wish)
{
    struct sim_stats stats = {0};
    struct sim *s = sim_new(&stats);
    s->world.tracing = wish->trace;
    s->ablation = wish->ablation;
    s->crash_at = (uint32_t)wish->crash_at;
    bool passed = sim_run(s, wish->seed);
    if (passed)
        printf("seed %llu passed: %llu events, %llu failovers\n", (unsigned long long)wish->seed,
               (unsigned long long)stats.events, (unsigned long long)stats.failovers);
    else
        printf("seed %llu FAILED %s: %s\n", (unsigned long long)wish->seed, s->world.invariant,
               s->world.failure);
    sim_free(s);
    return passed ? 0 : 1;
}

static bool sim_number(const char *text, uint64_t *out)
{
    char *end = NULL;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return errno == 0 && end != text && *end == '\0';
}

static int sim_usage(FILE *to)
{
    (void)fprintf(to, "usage: sim --seeds COUNT [--from SEED] [--jobs N] [--ablate RULE]\n"
                      "       sim --seed SEED [--trace] [--ablate RULE] [--crash-at ACTION]\n"
                      "       sim --crashes [--seeds COUNT] [--from SEED]\n"
                      "       sim --ablations [--seeds LIMIT] [--from SEED] [--jobs N]\n"
                      "Rules that can be switched off:\n");
    for (int a = ABLATE_NOTHING + 1; a < ABLATIONS; a++)
        (void)fprintf(to, "  %-10s %s\n", ablation_word((enum ablation)a), ablation_rule((enum ablation)a));
    return to == stdout ? 0 : 2;
}

static bool sim_take_option(int c, struct sim_wish *wish)
{
    switch (c) {
    case 't':
        return wish->trace = true;
    case 'c':
        return wish->crashes = true;
    case 'k':
        return sim_number(optarg, &wish->crash_at);
    case 'b':
        return wish->ablations = true;
    case 'a':
        return ablation_parse(optarg, &wish->ablation) == 0;
    case 'n':
        return wish->has_seeds = sim_number(optarg, &wish->seeds);
    case 'f':
        return sim_number(optarg, &wish->from);
    case 'j':
        return sim_number(optarg, &wish->jobs) && wish->jobs > 0 && wish->jobs <= SIM_JOBS_MAX;
    case 's':
        return wish->one = sim_number(optarg, &wish->seed);
    default:
        return false;
    }
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"from", required_argument, NULL, 'f'},
        {"jobs", required_argument, NULL, 'j'},
        {"seed", required_argument, NULL, 's'},
        {"trace", no_argument, NULL, 't'},
        {"ablate", required_argument, NULL, 'a'},
        {"ablations", no_argument, NULL, 'b'},
        {"crashes", no_argument, NULL, 'c'},
        {"crash-at", required_argument, NULL, 'k'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct sim_wish wish = {.seeds = 1000, .jobs = 2};
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'h')
            return sim_usage(stdout);
        if (!sim_take_option(c, &wish))
            return sim_usage(stderr);
    }
    if (optind != argc)
        return sim_usage(stderr);
    if (wish.ablations && !wish.has_seeds)
        wish.seeds = SIM_ABLATION_SEEDS;
    if (wish.crashes && !wish.has_seeds)
        wish.seeds = SIM_CRASH_SEEDS;
    if (wish.crashes)
        return sim_crash_everywhere(&wish);
    if (wish.one)
        return sim_one(&wish);
    if (wish.ablations)
        return sim_ablate_all(&wish);
    if (wish.ablation != ABLATE_NOTHING)
        return sim_ablate(&wish, wish.ablation) ? 0 : 1;
    return sim_many(&wish);
}
