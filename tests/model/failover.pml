/* The rules of a failover with durability `strict` (k = 1): seal, choose, promote, take back. Exhausted by spin.
 *
 *   members 0..2: a log of writes, the epoch whose history it is, a role; they crash: forget all, or all but what was on
 *                 their disk (the first one to crash, at most), and return as orphans
 *   the record:   STABLE → SEALING → PROMOTING → STABLE, committed only by who leads, only over what it has read
 *   two leaders:  the second may take over at any moment; the first does not know
 *   clients:      write to any member that takes writes (their proxies may be behind); a write is acknowledged when
 *                 a replica of that member has it
 * Any message may be late or never come: that is a step that is not taken yet, or never. So a failover may begin at
 * any moment, whatever the master does; any member may be out of reach; a dead one is one that has forgotten all and
 * takes no step. That a write counts as acknowledged at once, and not when the client hears of it, loses nothing: it
 * is owed from the first moment on.
 *
 * What must hold:
 *   durable     who is promoted has every write that was acknowledged before; and no write is acknowledged afterwards
 *               by a master of an older epoch, unless the new one has it
 *   one master  an epoch has one master
 *
 * Each -D switch takes one rule away; check-model expects a violation from every one of them:
 *   NO_SEAL          offsets are read, the members stay attached to the old master
 *   NO_QUORUM        one answer is enough to choose
 *   DROP_DEAD        members that did not answer stop counting at a promotion
 *   LENGTH_ONLY      the longest log is chosen, whichever history it is
 *   ID_ONLY          the newest replication id is chosen, however short
 *   TRUST_RESTARTED  a process that has forgotten everything counts as if it had not
 *   COUNT_SYNCING    so does one whose full synchronization has not ended
 *   COUNT_LINKED     so does one that continues from its disk, before it has all that its master has
 *   NO_INTENT        it is promoted first and committed later
 *   NO_FENCE         a deposed leader's commits and orders take effect
 *   NO_CLOCK         its orders to the members do, its commits don't: it never stops by its own clock
 *   NO_MARKER        a write is acknowledged though no replica has it
 *   BOOT_AS_MASTER   a restarted master is a master again
 *
 * Switches that end the search where something good has happened, so that the silence above means something; check-model
 * expects to be told that it can:
 *   CAN_FINISH       two failovers ended, all writes are acknowledged, two members had crashed
 *   CAN_TAKE_OVER    the second leader finished what the first had begun
 *   CAN_REFUSE       after two crashes nobody may be promoted, though a member holds all it ever had */

#define N 3
#define WRITES 3
#define EPOCHS 3 /* the first one included: two failovers */
#define CRASHES 2
#define NOBODY N

#define STABLE 0
#define SEALING 1
#define PROMOTING 2

#define SEALED 0
#define REPLICA 1
#define MASTER 2

#define BIT(x) (1 << (x))
#define HAS(mask, x) (((mask) >> (x)) & 1)

/* Members. A log has 2 bits a write: their numbers 1..3, the first in the lowest bits. */
byte log[N], size[N], hist[N], role[N], follows[N];
bit attached[N], syncing[N];
bit known[N]; /* its process is the one that the record names */

/* What a seal answered; 0 while nobody needs it. */
byte final_size[N], final_hist[N];
bit final_counts[N];

/* The record. */
byte r_state = STABLE, r_epoch = 1, r_master = 0, r_candidate = NOBODY;
byte r_registered = 7; /* bits of the members that count */
byte start[EPOCHS + 1];
byte term = 0; /* which of the two leads */

/* What each leader believes. */
byte l_state[2], l_epoch[2], l_candidate[2], l_sealed[2];

/* Ghosts: bits of writes. */
byte written = 0, crashes = 0, acknowledged = 0;
byte kept = 0; /* those that the newest promoted one had */
byte promoted_epoch = 1;

/* Scratch; always 0 between steps. */
byte i, j, best, n, bits;
bit ok;

#define ENTRY(m, at) ((log[m] >> (2 * (at))) & 3)
#define PREFIX(r, m) (size[r] <= size[m] && (log[m] & (BIT(2 * size[r]) - 1)) == log[r])

#if defined(NO_FENCE) || defined(NO_CLOCK)
#define MAY_ORDER(l) (l <= term)
#else
#define MAY_ORDER(l) (l == term)
#endif
#ifdef NO_FENCE
#define MAY_COMMIT(l) (l <= term)
#else
#define MAY_COMMIT(l) (l == term && l_state[l] == r_state && l_epoch[l] == r_epoch)
#endif

inline bits_of(m)
{
    bits = 0; i = 0;
    do
    :: i < size[m] -> bits = bits | BIT(ENTRY(m, i) - 1); i++
    :: else -> break
    od;
    i = 0
}

/* What m holds is acknowledged to the clients of its master x. */
inline acknowledge(m, x)
{
    bits_of(m);
    assert(hist[x] >= promoted_epoch || (bits & (7 - kept)) == 0); /* durable */
    acknowledged = acknowledged | bits; bits = 0
}

inline lose_links_to(m)
{
    if :: follows[0] == m -> attached[0] = 0 :: else fi;
    if :: follows[1] == m -> attached[1] = 0 :: else fi;
    if :: follows[2] == m -> attached[2] = 0 :: else fi
}

inline detach(m)
{
    follows[m] = NOBODY; attached[m] = 0
}

inline commit(l, state, epoch)
{
    r_state = state; r_epoch = epoch; l_state[l] = state; l_epoch[l] = epoch
}

inline forget_answers(l)
{
#if !defined(NO_FENCE) && !defined(NO_CLOCK)
    final_size[0] = 0; final_size[1] = 0; final_size[2] = 0;
    final_hist[0] = 0; final_hist[1] = 0; final_hist[2] = 0;
    final_counts[0] = 0; final_counts[1] = 0; final_counts[2] = 0;
#endif
    l_sealed[l] = 0
}

/* The newest epoch whose history it holds from its start on. */
inline lineage(m)
{
    j = final_hist[m];
#ifndef ID_ONLY
    do
    :: j > 1 && start[j] > final_size[m] -> j--
    :: else -> break
    od
#endif
}

inline consider(l, m)
{
    if
    :: HAS(l_sealed[l], m) && HAS(r_registered, m) && final_counts[m] ->
        n++;
        lineage(m);
#ifdef LENGTH_ONLY
        j = 0;
#endif
        if
        :: best == NOBODY || j > bits || (j == bits && final_size[m] > final_size[best]) -> best = m; bits = j
        :: else
        fi;
        j = 0
    :: else
    fi
}

inline choose(l)
{
    best = NOBODY; n = 0; bits = 0;
    consider(l, 0); consider(l, 1); consider(l, 2);
    bits = 0;
#ifdef NO_QUORUM
    ok = n >= 1
#else
    /* Of all that are registered, all but k = 1 must have answered and count. */
    ok = n >= 1 && n + 1 >= HAS(r_registered, 0) + HAS(r_registered, 1) + HAS(r_registered, 2)
#endif
}

inline make_master(l, m)
{
    if
    :: role[m] == MASTER && hist[m] == l_epoch[l] /* it is one already */
    :: else ->
        bits_of(m);
        assert((acknowledged & (7 - bits)) == 0); /* durable */
        assert((m == 0 || role[0] != MASTER || hist[0] != l_epoch[l]) &&
               (m == 1 || role[1] != MASTER || hist[1] != l_epoch[l]) &&
               (m == 2 || role[2] != MASTER || hist[2] != l_epoch[l])); /* one master */
        role[m] = MASTER; hist[m] = l_epoch[l]; detach(m);
        kept = bits; promoted_epoch = l_epoch[l]; bits = 0
    fi
}

#define SERVES(l) (role[l_candidate[l]] == MASTER && hist[l_candidate[l]] == l_epoch[l])
#define CAN_BE_PROMOTED(l) (known[l_candidate[l]] && (role[l_candidate[l]] == SEALED || SERVES(l)))

/* ---- steps ---------------------------------------------------------------------------------------------------- */

#ifdef NO_MARKER
#define AFTER_WRITE(m) acknowledge(m, m)
#else
#define AFTER_WRITE(m) skip
#endif
#define STEP_WRITE(m) \
    :: d_step { role[m] == MASTER && written < WRITES -> \
        written++; log[m] = log[m] | (written << (2 * size[m])); size[m]++; AFTER_WRITE(m) }

#define IS_LINKED(r, m) (follows[r] == m && attached[r] && role[m] == MASTER)
#define STEP_REPLICATE(r, m) \
    :: d_step { IS_LINKED(r, m) && !syncing[r] && size[r] < size[m] -> \
        log[r] = log[r] | (ENTRY(m, size[r]) << (2 * size[r])); size[r]++; acknowledge(r, m) }

/* A partial resynchronization where Redis may grant one; else a full one: it forgets, then copies. */
#define STEP_ATTACH(r, m) \
    :: d_step { follows[r] == m && !attached[r] && role[m] == MASTER && PREFIX(r, m) && hist[r] != 0 && !syncing[r] -> \
        attached[r] = 1; hist[r] = hist[m]; acknowledge(r, m) } \
    :: d_step { follows[r] == m && !attached[r] && role[m] == MASTER && \
        (!PREFIX(r, m) || hist[r] != hist[m] || syncing[r]) -> \
        attached[r] = 1; log[r] = 0; size[r] = 0; hist[r] = 0; syncing[r] = 1 } \
    :: d_step { IS_LINKED(r, m) && syncing[r] -> \
        log[r] = log[m]; size[r] = size[m]; hist[r] = hist[m]; syncing[r] = 0; acknowledge(r, m) }

#ifdef TRUST_RESTARTED
#define FORGET_PROCESS(m) skip
#else
#define FORGET_PROCESS(m) known[m] = 0
#endif
#ifdef BOOT_AS_MASTER
#define BOOT(m) role[m] = (r_master == m -> MASTER : SEALED); hist[m] = (r_master == m -> r_epoch : 0)
#else
#define BOOT(m) role[m] = SEALED; hist[m] = 0
#endif
#define STEP_CRASH(m) \
    :: d_step { crashes < CRASHES -> \
        crashes++; log[m] = 0; size[m] = 0; syncing[m] = 0; detach(m); FORGET_PROCESS(m); BOOT(m); lose_links_to(m) }
/* It comes back with its first write, and may continue from there. */
#define STEP_RESTART(m) \
    :: d_step { crashes == 0 && role[m] != MASTER && size[m] > 0 && !syncing[m] -> \
        crashes++; log[m] = log[m] & 3; size[m] = 1; detach(m); FORGET_PROCESS(m); role[m] = SEALED; lose_links_to(m) }

#ifdef COUNT_SYNCING
#define COUNTS(m) (known[m])
#else
#define COUNTS(m) (known[m] && !syncing[m])
#endif
#ifdef COUNT_LINKED
#define HAS_REACHED(m) (1)
#else
#define HAS_REACHED(m) (size[m] >= size[r_master])
#endif
#ifdef NO_SEAL
#define DO_SEAL(m) skip
#else
#define DO_SEAL(m) role[m] = SEALED; detach(m); lose_links_to(m)
#endif
#define STEP_SEAL(l, m) \
    :: d_step { MAY_ORDER(l) && l_state[l] == SEALING && !HAS(l_sealed[l], m) && l_candidate[l] == NOBODY -> \
        DO_SEAL(m); \
        final_size[m] = size[m]; final_hist[m] = hist[m]; final_counts[m] = COUNTS(m); \
        l_sealed[l] = l_sealed[l] | BIT(m) }

#ifdef NO_INTENT
#define AFTER_CHOICE(l) skip
#define MAY_PROMOTE(l) (l_candidate[l] != NOBODY && l_state[l] == SEALING)
#else
#define AFTER_CHOICE(l) r_candidate = l_candidate[l]; commit(l, PROMOTING, l_epoch[l])
#define MAY_PROMOTE(l) (l_state[l] == PROMOTING)
#endif
#ifdef DROP_DEAD
#define DROP(l) r_registered = n
#else
#define DROP(l) skip
#endif
#ifdef NO_SEAL
#define IS_FIT(l) known[l_candidate[l]]
#else
#define IS_FIT(l) CAN_BE_PROMOTED(l)
#endif
#define STEPS_OF_LEADER(l) \
    :: d_step { MAY_COMMIT(l) && l_state[l] == STABLE && l_epoch[l] < EPOCHS -> \
        commit(l, SEALING, l_epoch[l] + 1); l_candidate[l] = NOBODY; l_sealed[l] = 0 } \
    :: d_step { MAY_COMMIT(l) && l_state[l] == SEALING && l_candidate[l] == NOBODY && l_sealed[l] != 0 -> \
        choose(l); \
        if \
        :: ok -> \
            start[l_epoch[l]] = final_size[best]; l_candidate[l] = best; n = l_sealed[l]; \
            DROP(l); AFTER_CHOICE(l); forget_answers(l) \
        :: else \
        fi; \
        best = 0; n = 0; ok = 0 } \
    :: d_step { MAY_ORDER(l) && MAY_PROMOTE(l) && IS_FIT(l) -> make_master(l, l_candidate[l]) } \
    :: d_step { MAY_COMMIT(l) && MAY_PROMOTE(l) && !IS_FIT(l) && l_epoch[l] < EPOCHS -> \
        commit(l, SEALING, l_epoch[l] + 1); l_candidate[l] = NOBODY; l_sealed[l] = 0; r_candidate = NOBODY } \
    :: d_step { MAY_COMMIT(l) && MAY_PROMOTE(l) && SERVES(l) -> \
        r_master = l_candidate[l]; r_candidate = NOBODY; l_candidate[l] = NOBODY; commit(l, STABLE, l_epoch[l]) }

#if defined(CAN_FINISH)
#define WITNESS :: d_step { r_state == STABLE && r_epoch == EPOCHS && acknowledged == 7 && crashes == CRASHES -> assert(false) }
#elif defined(CAN_TAKE_OVER)
#define WITNESS :: d_step { term == 1 && r_state == STABLE && r_epoch == EPOCHS && l_epoch[1] == EPOCHS && acknowledged == 7 -> \
        assert(false) }
#elif defined(CAN_REFUSE)
#define WITNESS :: d_step { r_state == SEALING && l_sealed[0] == 7 && !known[0] && !known[1] && known[2] -> \
        choose(0); assert(ok); best = 0; n = 0; ok = 0 }
#else
#define WITNESS
#endif

/* Whoever does not follow the master is made to, a deposed one too; and counts again once it has all of its data. */
#define STEP_TEND(l, m) \
    :: d_step { MAY_ORDER(l) && l_state[l] == STABLE && m != r_master && follows[m] != r_master -> \
        lose_links_to(m); role[m] = REPLICA; follows[m] = r_master; attached[m] = 0 } \
    :: d_step { MAY_COMMIT(l) && l_state[l] == STABLE && !known[m] && !syncing[m] && IS_LINKED(m, r_master) && \
        hist[r_master] == r_epoch && HAS_REACHED(m) -> known[m] = 1 }

#if defined(NO_FENCE) || defined(NO_CLOCK)
#define DEPOSE(l) skip
#else
#define DEPOSE(l) l_state[l] = 0; l_epoch[l] = 0; l_candidate[l] = NOBODY; forget_answers(l)
#endif

init {
    d_step {
        known[0] = 1; known[1] = 1; known[2] = 1;
        hist[0] = 1; hist[1] = 1; hist[2] = 1;
        role[0] = MASTER; follows[0] = NOBODY;
        role[1] = REPLICA; attached[1] = 1;
        role[2] = REPLICA; attached[2] = 1;
        l_epoch[0] = 1; l_candidate[0] = NOBODY; l_candidate[1] = NOBODY
    }
    do
    STEP_WRITE(0) STEP_WRITE(1) STEP_WRITE(2)
    STEP_REPLICATE(0, 1) STEP_REPLICATE(0, 2) STEP_REPLICATE(1, 0)
    STEP_REPLICATE(1, 2) STEP_REPLICATE(2, 0) STEP_REPLICATE(2, 1)
    STEP_ATTACH(0, 1) STEP_ATTACH(0, 2) STEP_ATTACH(1, 0) STEP_ATTACH(1, 2) STEP_ATTACH(2, 0) STEP_ATTACH(2, 1)
    STEP_CRASH(0) STEP_CRASH(1) STEP_CRASH(2)
    STEP_SEAL(0, 0) STEP_SEAL(0, 1) STEP_SEAL(0, 2) STEP_SEAL(1, 0) STEP_SEAL(1, 1) STEP_SEAL(1, 2)
    STEPS_OF_LEADER(0)
    STEPS_OF_LEADER(1)
    STEP_TEND(0, 0) STEP_TEND(0, 1) STEP_TEND(0, 2) STEP_TEND(1, 0) STEP_TEND(1, 1) STEP_TEND(1, 2)
    STEP_RESTART(0) STEP_RESTART(1) STEP_RESTART(2)
    WITNESS
    :: d_step { term == 0 ->
        /* The other one leads now: it reads the record; what was not committed is unknown to it. */
        term = 1; l_state[1] = r_state; l_epoch[1] = r_epoch; l_candidate[1] = r_candidate; DEPOSE(0) }
    od
}
