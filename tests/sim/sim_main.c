/* The deterministic simulator: runs seeds, reports the first failure of each with the tail of its trace.
 *
 *   sim --seeds 100000 [--from N] [--jobs 2]     many; exit 1 when one fails or a table row was never taken
 *   sim --seed N [--trace]                       one, the same events in the same order each time */
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

enum { SIM_JOBS_MAX = 16, SIM_FAILED_MAX = 20, SIM_TRACE_TAIL = 16384 };

/* Shared by the jobs. */
struct sim_board {
    uint64_t next, end;
    uint64_t running[SIM_JOBS_MAX]; /* seed + 1 of each job; 0: none */
    struct sim_stats stats[SIM_JOBS_MAX];
    uint32_t n_failed;
    uint64_t failed[SIM_FAILED_MAX];
};

/* ---- many seeds ---------------------------------------------------------------------------------------- */

static void sim_board_fail(struct sim_board *board, uint64_t seed)
{
    uint32_t at = __atomic_fetch_add(&board->n_failed, 1, __ATOMIC_RELAXED);
    if (at < SIM_FAILED_MAX)
        board->failed[at] = seed;
}

static void sim_job(struct sim_board *board, int job)
{
    struct sim *s = sim_new(&board->stats[job]);
    for (;;) {
        uint64_t seed = __atomic_fetch_add(&board->next, 1, __ATOMIC_RELAXED);
        if (seed >= board->end || __atomic_load_n(&board->n_failed, __ATOMIC_RELAXED) >= SIM_FAILED_MAX)
            break;
        board->running[job] = seed + 1;
        if (!sim_run(s, seed))
            sim_board_fail(board, seed);
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
static void sim_explain(uint64_t seed)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct sim_stats stats = {0};
        struct sim *s = sim_new(&stats);
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
}

/* Number of rows that were never taken: each row must be reachable, or it does not belong in the table. */
static uint32_t sim_print_coverage(const struct sim_stats *sum)
{
    uint32_t missing = 0;
    printf("coverage of table rows:");
    for (uint32_t k = 0; k < failover_table_rows; k++)
        printf(" %u:%llu", failover_table[k].number, (unsigned long long)sum->rows[k]);
    printf("\n");
    for (uint32_t k = 0; k < failover_table_rows; k++) {
        if (sum->rows[k] == 0)
            printf("row %u was NEVER TAKEN\n", failover_table[k].number);
        missing += sum->rows[k] == 0;
    }
    return missing;
}

static int sim_many(uint64_t from, uint64_t seeds, int jobs)
{
    struct sim_board *board = (struct sim_board *)mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
                                                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED) {
        (void)fprintf(stderr, "sim: no memory for the jobs: %s\n", strerror(errno));
        return 2;
    }
    board->next = from;
    board->end = from + seeds;
    sim_run_jobs(board, jobs);
    struct sim_stats sum = {0};
    for (int j = 0; j < jobs; j++)
        sim_sum(&sum, &board->stats[j]);
    uint32_t failed = board->n_failed < SIM_FAILED_MAX ? board->n_failed : SIM_FAILED_MAX;
    for (uint32_t k = 0; k < failed; k++)
        sim_explain(board->failed[k]);
    uint32_t missing = sim_print_coverage(&sum);
    printf("%llu seeds, %u failures, %llu failovers, %llu promotions, %llu events, %llu writes, %llu full "
           "synchronizations, %llu commits refused, %llu ended waiting for a dead member\n",
           (unsigned long long)sum.seeds, board->n_failed, (unsigned long long)sum.failovers,
           (unsigned long long)sum.promotions, (unsigned long long)sum.events, (unsigned long long)sum.writes,
           (unsigned long long)sum.full_syncs, (unsigned long long)sum.refused_commits,
           (unsigned long long)sum.waiting);
    /* A few seeds can't be expected to take every row. */
    bool covered = missing == 0 || seeds < 10000;
    int result = failed == 0 && covered ? 0 : 1;
    munmap(board, sizeof(*board));
    return result;
}

static int sim_one(uint64_t seed, bool trace)
{
    struct sim_stats stats = {0};
    struct sim *s = sim_new(&stats);
    s->world.tracing = trace;
    bool passed = sim_run(s, seed);
    if (passed)
        printf("seed %llu passed: %llu events, %llu failovers\n", (unsigned long long)seed,
               (unsigned long long)stats.events, (unsigned long long)stats.failovers);
    else
        printf("seed %llu FAILED %s: %s\n", (unsigned long long)seed, s->world.invariant, s->world.failure);
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
    (void)fprintf(to, "usage: sim --seeds COUNT [--from SEED] [--jobs N]\n"
                      "       sim --seed SEED [--trace]\n");
    return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 'n'},
        {"from", required_argument, NULL, 'f'},
        {"jobs", required_argument, NULL, 'j'},
        {"seed", required_argument, NULL, 's'},
        {"trace", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    uint64_t seeds = 1000, from = 0, jobs = 2, seed = 0;
    bool one = false, trace = false, good = true;
    for (int c; good && (c = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (c == 'h')
            return sim_usage(stdout);
        if (c == 't')
            trace = true;
        else if (c == 'n')
            good = sim_number(optarg, &seeds);
        else if (c == 'f')
            good = sim_number(optarg, &from);
        else if (c == 'j')
            good = sim_number(optarg, &jobs) && jobs > 0 && jobs <= SIM_JOBS_MAX;
        else if (c == 's')
            good = one = sim_number(optarg, &seed);
        else
            good = false;
    }
    if (!good || optind != argc)
        return sim_usage(stderr);
    return one ? sim_one(seed, trace) : sim_many(from, seeds, (int)jobs);
}
