/* The gate between a host that may do anything and a gantry behind two wires (commands, stops), for spin.
 *
 * The same three machines as src/scanward/guard/states.py, with one element per chain left out of sight (an element
 * is "first" or "next"), motions and doses left out, and everything that the gate decides by looking (verdict, echo,
 * deadlines, operator) made a free choice. What must hold is asserted where something is passed on, from books that
 * the gate does not read:
 *
 *   I1  no load is passed on without a verdict of release, an operator's release or emergency access
 *   I2  a stop is on its wire in the step in which it was said, whatever judge, log and operator do
 *   I3  a trigger passes only for what is armed, echoed as judged, not void, and once per element
 *   I4  nothing is passed on twice, or after the host was told that it is not
 *   I5  nothing is passed on before its record is durable (save a trigger of a chain that has begun)
 *
 * Checked without -DBREAK; with -DBREAK=n one of them is broken on purpose and must be found.
 */
#ifndef BREAK
#define BREAK 0
#endif
#ifndef LOADS
#define LOADS 2      /* ids in use at once: armed and pending */
#endif
#define ELEMENTS 2

mtype:phase = { IDLE, LOADED, COMMITTED, BEAM };
mtype:wait = { NONE, JUDGING, HELD, RECORDING, CONFIRMING };
mtype:word = { LOAD, TRIGGER, CANCEL, ECHO, STARTED, DONE };

mtype:phase phase = IDLE;
mtype:wait pending = NONE;
bool firing = false;      /* a trigger waits for its record */
byte item = 0;            /* pending load, 0 none */
byte armed = 0;           /* armed load, 0 none */
byte shot = 0;            /* load that the waiting trigger belongs to */
byte next = 0;            /* next element of the armed chain */
bool host = true, gantry = true, emergency = false;
bool durable_item = false, durable_shot = false;

/* books: never read by the gate */
typedef Book { bool used, judged, approved, passed, echoed, dead, begun; byte shots[ELEMENTS] };
Book book[LOADS + 1];

chan wire = [3] of { mtype:word, byte, byte };   /* gate -> gantry, in order */
chan stops = [1] of { bit };                     /* gate -> gantry, apart */
chan back = [2] of { mtype:word, byte, byte };   /* gantry -> gate */
bool stop_said = false;

inline forget(id) {          /* the host is told, or the arming is void: it must not be used any more */
    if :: id != 0 -> book[id].dead = true; book[id].judged = false; book[id].approved = false;
            book[id].passed = false; book[id].echoed = false; book[id].begun = false;
            book[id].shots[0] = 0; book[id].shots[1] = 0
       :: else fi
}
inline void_armed() {
    if :: armed != 0 -> forget(armed); if :: gantry && len(wire) < 3 -> wire!CANCEL(armed, 0) :: else fi; armed = 0
       :: else fi
}
inline drop_item() {
    if :: item != 0 ->
            forget(item);
            if :: pending == CONFIRMING && gantry && len(wire) < 3 -> wire!CANCEL(item, 0) :: else fi;
            item = 0; pending = NONE; durable_item = false
       :: else fi
}
inline withdraw() { firing = false; shot = 0; durable_shot = false }
#if BREAK == 3
inline withdraw_if_void() { skip }
#else
inline withdraw_if_void() { if :: firing && (shot != armed || phase == BEAM) -> withdraw() :: else fi }
#endif

inline pass_load() {
    if :: armed != 0 -> void_armed() :: else fi;
    withdraw_if_void();
    assert(book[item].judged || book[item].approved);          /* I1 */
    assert(!book[item].passed && !book[item].dead);            /* I4 */
    assert(durable_item);                                      /* I5 */
    book[item].passed = true;
    wire!LOAD(item, 0);
    pending = CONFIRMING
}
inline pass_trigger() {
    assert(shot == armed && armed != 0);                       /* I3 */
    assert(book[armed].echoed && !book[armed].dead);           /* I3 */
    assert(book[armed].shots[next] == 0);                      /* I3 */
    assert(durable_shot || book[armed].begun);                 /* I5 */
    book[armed].shots[next] = 1;
    book[armed].begun = true;
    wire!TRIGGER(armed, next);
    next++;
    phase = BEAM;
    withdraw()
}
inline end_of_element() {
    if :: armed == 0 -> phase = IDLE
       :: armed != 0 && next >= ELEMENTS -> forget(armed); armed = 0; phase = IDLE
       :: else -> phase = COMMITTED
    fi
}
inline fresh(id) {           /* a load id that nobody speaks of any more */
    id = 1;
    do
    :: id <= LOADS && (id == item || id == armed || id == at_gantry || (book[id].used && !book[id].dead)) -> id++
    :: else -> break
    od
}

byte at_gantry = 0;          /* the gantry's own: what it holds, and whether its beam is on */
bool beam = false;

active proctype Gate() {
    byte id, e;
    mtype:word what;
end:
    do
    /* --- the host says anything at any time ------------------------------------------------------------ */
    :: atomic { host && gantry && phase != BEAM && empty(wire) -> /* LOAD */
        fresh(id);
        if
        :: id > LOADS -> skip
        :: else ->
            drop_item();                                       /* replaced by a newer load */
            if :: phase == LOADED -> void_armed(); phase = IDLE :: else fi;
            withdraw_if_void();
            book[id].used = true; book[id].judged = false; book[id].approved = false; book[id].passed = false;
            book[id].echoed = false; book[id].dead = false; book[id].begun = false;
            book[id].shots[0] = 0; book[id].shots[1] = 0;
            item = id; pending = JUDGING; durable_item = false
        fi; id = 0 }
    :: atomic { host && !firing && armed != 0 && pending != CONFIRMING && phase != BEAM -> /* TRIGGER, in order */
        firing = true; shot = armed; durable_shot = false }
    :: atomic { host && armed != 0 -> /* CANCEL of what is armed */
        void_armed(); if :: phase != BEAM -> phase = IDLE :: else fi;
        if :: firing -> withdraw() :: else fi }
#if BREAK == 4
    :: atomic { host && item != 0 -> forget(item); book[item].judged = true } /* told so, and released all the same */
#else
    :: atomic { host && item != 0 -> drop_item() } /* CANCEL of what waits */
#endif
    :: atomic { nfull(stops) -> /* STOP, by any connection */
#if BREAK == 2
        if :: pending == HELD -> skip :: else -> stops!1 fi;
#else
        stops!1;
#endif
        stop_said = true;
        void_armed(); drop_item();
        if :: firing -> withdraw() :: else fi;
        phase = IDLE;
        assert(nempty(stops) || !gantry);                      /* I2 */
        stop_said = false }
    /* --- judge, operator, log, people ------------------------------------------------------------------ */
    :: atomic { pending == JUDGING -> /* a verdict */
        if
        :: book[item].judged = true; pending = RECORDING       /* RELEASE */
        :: pending = HELD                                      /* ALERT */
        :: drop_item()                                         /* HALT, no verdict, too late */
#if BREAK == 1
        :: pending = RECORDING                                 /* the judge died: let it pass */
#endif
        :: emergency -> book[item].approved = true; pending = RECORDING
        fi }
    :: atomic { pending == HELD ->
        if
        :: book[item].approved = true; pending = RECORDING     /* the operator releases */
        :: drop_item()                                         /* refuses, or does not answer */
        fi }
    :: atomic { pending == RECORDING && phase != BEAM && nfull(wire) && gantry && empty(wire) ->
#if BREAK == 5
        skip;
#else
        durable_item = true;
#endif
        pass_load() }
    :: atomic { pending == RECORDING -> drop_item() }          /* the log is full, failed or too slow */
    :: atomic { firing && phase != BEAM && nfull(wire) && gantry -> durable_shot = true; pass_trigger() }
    :: atomic { firing && phase == COMMITTED && nfull(wire) && gantry && book[armed].begun -> pass_trigger() }
    :: atomic { firing && phase != COMMITTED -> withdraw() }   /* its record did not become durable in time */
    :: atomic { emergency = !emergency }
    :: atomic { pending == JUDGING || pending == HELD -> pending = JUDGING; book[item].judged = false;
                book[item].approved = false }                  /* the context changed: from the start */
    :: atomic { phase == LOADED -> void_armed(); phase = IDLE; if :: firing -> withdraw() :: else fi }
                                                               /* context, bundle, mode changed; expired */
    :: atomic { pending == CONFIRMING -> drop_item() }         /* no echo in time */
    :: atomic { phase == COMMITTED && armed == 0 && item == 0 -> phase = IDLE }
    /* --- the gantry's messages ------------------------------------------------------------------------- */
    :: atomic { back?what(id, e) ->
        if
        :: what == ECHO && pending == CONFIRMING && id == item ->
            if
            :: e == 1 -> book[item].echoed = true; armed = item; item = 0; pending = NONE; durable_item = false;
                         next = 0; if :: phase == IDLE -> phase = LOADED :: else fi
            :: else -> drop_item()                             /* it holds something else */
            fi
        :: what == STARTED && phase == BEAM -> skip
        :: what == STARTED && phase != BEAM -> if :: len(stops) == 0 -> stops!1 :: else fi; void_armed(); phase = IDLE;
            if :: firing -> withdraw() :: else fi
        :: what == DONE && phase == BEAM -> end_of_element(); withdraw_if_void()
        :: else -> skip
        fi; id = 0; e = 0 }
    /* --- connections ----------------------------------------------------------------------------------- */
    :: atomic { host -> host = false; void_armed(); drop_item(); if :: firing -> withdraw() :: else fi;
                phase = IDLE }
    :: atomic { !host -> host = true }
    :: atomic { gantry -> gantry = false; forget(armed); armed = 0; drop_item();
                if :: firing -> withdraw() :: else fi; phase = IDLE }
    :: atomic { !gantry && empty(wire) && empty(back) -> gantry = true }
    od
}

active proctype Gantry() {
    byte id, e;
    mtype:word what;
end:
    do
    :: atomic { stops?_ -> beam = false; at_gantry = 0 }       /* first of all */
    :: atomic { empty(stops) && gantry && nfull(back) && wire?[_, _, _] -> wire?what(id, e);
        if
        :: what == LOAD -> at_gantry = id;
            if
            :: back!ECHO(id, 1)
            :: back!ECHO(id, 0)                                /* it heard something else */
            fi
        :: what == CANCEL -> if :: at_gantry == id -> at_gantry = 0 :: else fi
        :: what == TRIGGER -> if
            :: at_gantry == id -> beam = true; back!STARTED(id, e)
            :: else -> back!DONE(id, e)                        /* declined */
            fi
        fi; id = 0; e = 0 }
    :: atomic { beam && gantry && nfull(back) -> beam = false; back!DONE(at_gantry, 0) }
    :: atomic { !gantry -> beam = false; at_gantry = 0;        /* link loss: its own safe state */
        do :: wire?what(id, e) :: empty(wire) -> break od;
        do :: back?what(id, e) :: empty(back) -> break od; id = 0; e = 0 }
    od
}
