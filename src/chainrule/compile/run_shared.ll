; Running a program, on one thread or shared with the workers of the pool. Comes behind runtime.ll.
;
; threads.py puts the system's part in front (POSIX threads), says how many threads there may be in place of
; MOST_THREADS, and mirrors the structures.
;
; The shares of a stage may be done in any order, by any thread, each once; all are done before the next stage begins.
; Stages are numbered through all programs that were ever shared. A thread does the share of its own number, then looks
; whether the others' are done, and does those that no one has begun: a thread that does not get a processor holds up
; no one. Such a thread may be far behind, in a stage long done, even of a program that has returned: it finds all
; shares taken until it has caught up.

; 0 ticket of the last job given to this worker, 1 whether it must be woken; 3 the last stage whose share with this
; number is done; 5 the last stage whose share with this number is taken; 7 the program this worker is in, or null;
; 9 and 10 a mutex and a condition to sleep on. What different threads write is in different cache lines.
%worker = type { i64, i64, [6 x i64], i64, [7 x i64], i64, [7 x i64], ptr, [7 x i64], [64 x i8], [64 x i8] }

; 0 whether a program is being shared, 1 threads there are, with the one that runs a program, 2 spins before a worker
; sleeps, 3 the program shared last, or null, 4 the last stage before it, 5 even, or odd while these two change, 6 the
; last stage of all.
%pool = type { i64, i64, i64, ptr, i64, i64, i64, [1 x i64], [MOST_THREADS x %worker] }

@pool = global %pool zeroinitializer, align 64

define internal ptr @ticket_of(i64 %thread) alwaysinline {
  %p = getelementptr %pool, ptr @pool, i64 0, i32 8, i64 %thread, i32 0
  ret ptr %p
}

define internal ptr @sleeping_of(i64 %thread) alwaysinline {
  %p = getelementptr %pool, ptr @pool, i64 0, i32 8, i64 %thread, i32 1
  ret ptr %p
}

define internal ptr @done_of(i64 %thread) alwaysinline {
  %p = getelementptr %pool, ptr @pool, i64 0, i32 8, i64 %thread, i32 3
  ret ptr %p
}

define internal ptr @taken_of(i64 %thread) alwaysinline {
  %p = getelementptr %pool, ptr @pool, i64 0, i32 8, i64 %thread, i32 5
  ret ptr %p
}

define internal ptr @inside_of(i64 %thread) alwaysinline {
  %p = getelementptr %pool, ptr @pool, i64 0, i32 8, i64 %thread, i32 7
  ret ptr %p
}

define internal ptr @mutex_of(i64 %thread) alwaysinline {
  %p = getelementptr %pool, ptr @pool, i64 0, i32 8, i64 %thread, i32 9
  ret ptr %p
}

define internal ptr @condition_of(i64 %thread) alwaysinline {
  %p = getelementptr %pool, ptr @pool, i64 0, i32 8, i64 %thread, i32 10
  ret ptr %p
}

; Take a share of a stage: 1 if it was free.
define internal i1 @take(i64 %share, i64 %number) alwaysinline {
start:
  %taken = call ptr @taken_of(i64 %share)
  %before = load atomic i64, ptr %taken monotonic, align 8
  %free = icmp slt i64 %before, %number
  br i1 %free, label %try, label %no
try:
  %result = cmpxchg ptr %taken, i64 %before, i64 %number monotonic monotonic
  %mine = extractvalue { i64, i1 } %result, 1
  ret i1 %mine
no:
  ret i1 false
}

; Take a share, do it and say so; nothing if it is taken.
define internal void @take_and_work(ptr %program, ptr %arguments, ptr %stage, i64 %share, i64 %number) {
start:
  %free = call i1 @take(i64 %share, i64 %number)
  br i1 %free, label %do, label %return
do:
  call void @work(ptr %program, ptr %arguments, ptr %stage, i64 %share)
  %done = call ptr @done_of(i64 %share)
  store atomic i64 %number, ptr %done release, align 8
  br label %return
return:
  ret void
}

; Wait until a share is done; do it if no one begins to; after a while let others have the processor now and then.
define internal void @await(ptr %program, ptr %arguments, ptr %stage, i64 %share, i64 %number) {
start:
  %done = call ptr @done_of(i64 %share)
  br label %look
look:
  %spins = phi i64 [ 0, %start ], [ %more, %spin ], [ %more, %help ], [ %more, %yield ]
  %last = load atomic i64, ptr %done acquire, align 8
  %over = icmp sge i64 %last, %number
  br i1 %over, label %return, label %spin
spin:
  call void @pause()
  %more = add i64 %spins, 1
  %patient = icmp slt i64 %more, 20
  br i1 %patient, label %look, label %help
help:
  call void @take_and_work(ptr %program, ptr %arguments, ptr %stage, i64 %share, i64 %number)
  %calm = icmp slt i64 %more, 500
  br i1 %calm, label %look, label %yield
yield:
  %ignored = call i32 @sched_yield()
  br label %look
return:
  ret void
}

; Go through a program as one of several threads. Returns the number of its last stage.
define internal i64 @perform(ptr %program, i64 %thread, i64 %stages.before) {
start:
  %at.end = getelementptr %program, ptr %program, i64 0, i32 1
  %at.most = getelementptr %program, ptr %program, i64 0, i32 7
  %first = load ptr, ptr %program
  %end = load ptr, ptr %at.end
  %most = load i64, ptr %at.most
  %arguments = alloca ptr, i64 %most
  br label %next
next:
  %stage = phi ptr [ %first, %start ], [ %following, %each ]
  %before = phi i64 [ %stages.before, %start ], [ %number, %each ]
  %over = icmp eq ptr %stage, %end
  br i1 %over, label %return, label %begin
begin:
  %following = getelementptr %stage, ptr %stage, i64 1
  %number = add i64 %before, 1
  %at.shares = getelementptr %stage, ptr %stage, i64 0, i32 2
  %shares = load i64, ptr %at.shares
  %has.own = icmp slt i64 %thread, %shares
  br i1 %has.own, label %own, label %others
own:
  call void @take_and_work(ptr %program, ptr %arguments, ptr %stage, i64 %thread, i64 %number)
  br label %others
others:
  br label %each
each:
  %share = phi i64 [ 0, %others ], [ %share.next, %each ]
  call void @await(ptr %program, ptr %arguments, ptr %stage, i64 %share, i64 %number)
  %share.next = add i64 %share, 1
  %all = icmp eq i64 %share.next, %shares
  br i1 %all, label %next, label %each
return:
  ret i64 %before
}

; Give the job to worker number %thread, and wake it if it sleeps.
define internal void @give(i64 %thread) {
start:
  %ticket = call ptr @ticket_of(i64 %thread)
  %ignored = atomicrmw add ptr %ticket, i64 1 seq_cst
  %at.sleeping = call ptr @sleeping_of(i64 %thread)
  %sleeping = load atomic i64, ptr %at.sleeping seq_cst, align 8
  %awake = icmp eq i64 %sleeping, 0
  br i1 %awake, label %return, label %wake
wake:
  %mutex = call ptr @mutex_of(i64 %thread)
  %condition = call ptr @condition_of(i64 %thread)
  %i1 = call i32 @pthread_mutex_lock(ptr %mutex)
  %i2 = call i32 @pthread_cond_signal(ptr %condition)
  %i3 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %return
return:
  ret void
}

; Share a program with the workers. Returns 0 if they are busy.
define internal i1 @share(ptr %program, i64 %threads) {
start:
  %result = cmpxchg ptr @pool, i64 0, i64 1 acquire monotonic
  %free = extractvalue { i64, i1 } %result, 1
  br i1 %free, label %publish, label %busy
publish:
  %odd = atomicrmw add ptr getelementptr (%pool, ptr @pool, i64 0, i32 5), i64 1 seq_cst
  store atomic ptr %program, ptr getelementptr (%pool, ptr @pool, i64 0, i32 3) seq_cst, align 8
  %before = load atomic i64, ptr getelementptr (%pool, ptr @pool, i64 0, i32 6) monotonic, align 8
  store atomic i64 %before, ptr getelementptr (%pool, ptr @pool, i64 0, i32 4) monotonic, align 8
  %even = atomicrmw add ptr getelementptr (%pool, ptr @pool, i64 0, i32 5), i64 1 seq_cst
  br label %each
each:
  %thread = phi i64 [ 1, %publish ], [ %next, %each ]
  call void @give(i64 %thread)
  %next = add i64 %thread, 1
  %all = icmp eq i64 %next, %threads
  br i1 %all, label %work, label %each
work:
  %after = call i64 @perform(ptr %program, i64 0, i64 %before)
  store atomic i64 %after, ptr getelementptr (%pool, ptr @pool, i64 0, i32 6) monotonic, align 8
  store atomic i64 0, ptr @pool release, align 8
  ret i1 true
busy:
  ret i1 false
}

; Run a program. Returns 1 if there are fewer workers than it could use.
define i32 @chainrule_run(ptr %program) {
start:
  %at.threads = getelementptr %program, ptr %program, i64 0, i32 6
  %at.marks = getelementptr %program, ptr %program, i64 0, i32 8
  %threads = load i64, ptr %at.threads
  %marks = load i64, ptr %at.marks
  %flush.mark = and i64 %marks, 1
  %flush = icmp ne i64 %flush.mark, 0
  call void @take_arrays(ptr %program)
  br i1 %flush, label %set, label %choose
set:
  %mode = call i32 @flush_subnormals()
  br label %choose
choose:
  %mode.before = phi i32 [ 0, %start ], [ %mode, %set ]
  %single = icmp eq i64 %threads, 1
  br i1 %single, label %alone, label %several
several:
  %there.are = load i64, ptr getelementptr (%pool, ptr @pool, i64 0, i32 1)
  %too.few = icmp slt i64 %there.are, %threads
  br i1 %too.few, label %alone, label %try
try:
  %shared = call i1 @share(ptr %program, i64 %threads)
  br i1 %shared, label %done, label %alone
alone:
  %missing = phi i32 [ 0, %choose ], [ 1, %several ], [ 0, %try ]
  call void @perform_alone(ptr %program)
  br label %done
done:
  %answer = phi i32 [ 0, %try ], [ %missing, %alone ]
  br i1 %flush, label %reset, label %return
reset:
  call void @restore(i32 %mode.before)
  br label %return
return:
  ret i32 %answer
}

; Come back when no worker is in the program any more, and none will go there: it may be unmade.
define void @chainrule_forget(ptr %program) {
start:
  %ignored = cmpxchg ptr getelementptr (%pool, ptr @pool, i64 0, i32 3), ptr %program, ptr null seq_cst seq_cst
  br label %each
each:
  %thread = phi i64 [ 0, %start ], [ %thread, %wait ], [ %next, %gone ]
  %inside = call ptr @inside_of(i64 %thread)
  %where = load atomic ptr, ptr %inside seq_cst, align 8
  %there = icmp eq ptr %where, %program
  br i1 %there, label %wait, label %gone
wait:
  %yielded = call i32 @sched_yield()
  br label %each
gone:
  %next = add i64 %thread, 1
  %all = icmp eq i64 %next, MOST_THREADS
  br i1 %all, label %return, label %each
return:
  ret void
}

; Take part in the program that is shared now, or was last.
define internal void @take_part(i64 %thread) {
start:
  %inside = call ptr @inside_of(i64 %thread)
  br label %look
look:
  call void @pause()
  %version = load atomic i64, ptr getelementptr (%pool, ptr @pool, i64 0, i32 5) seq_cst, align 8
  %program = load atomic ptr, ptr getelementptr (%pool, ptr @pool, i64 0, i32 3) seq_cst, align 8
  %before = load atomic i64, ptr getelementptr (%pool, ptr @pool, i64 0, i32 4) seq_cst, align 8
  %left = atomicrmw xchg ptr %inside, ptr %program seq_cst
  %program.now = load atomic ptr, ptr getelementptr (%pool, ptr @pool, i64 0, i32 3) seq_cst, align 8
  %version.now = load atomic i64, ptr getelementptr (%pool, ptr @pool, i64 0, i32 5) seq_cst, align 8
  %odd.bit = and i64 %version, 1
  %even = icmp eq i64 %odd.bit, 0
  %same.version = icmp eq i64 %version, %version.now
  %same.program = icmp eq ptr %program, %program.now
  %same = and i1 %same.version, %same.program
  %valid = and i1 %same, %even
  br i1 %valid, label %check, label %look
check:
  %none = icmp eq ptr %program, null
  br i1 %none, label %leave, label %enter
enter:
  %at.threads = getelementptr %program, ptr %program, i64 0, i32 6
  %at.marks = getelementptr %program, ptr %program, i64 0, i32 8
  %threads = load i64, ptr %at.threads
  %marks = load i64, ptr %at.marks
  %flush.mark = and i64 %marks, 1
  %flush = icmp ne i64 %flush.mark, 0
  %wanted = icmp slt i64 %thread, %threads
  br i1 %wanted, label %prepare, label %leave
prepare:
  br i1 %flush, label %set, label %go
set:
  %mode = call i32 @flush_subnormals()
  br label %go
go:
  %mode.before = phi i32 [ 0, %prepare ], [ %mode, %set ]
  %ignored = call i64 @perform(ptr %program, i64 %thread, i64 %before)
  br i1 %flush, label %reset, label %leave
reset:
  call void @restore(i32 %mode.before)
  br label %leave
leave:
  store atomic ptr null, ptr %inside release, align 8
  ret void
}

; Where a worker spends its life.
define void @chainrule_work(i64 %thread) {
start:
  %ticket = call ptr @ticket_of(i64 %thread)
  %sleeping = call ptr @sleeping_of(i64 %thread)
  %mutex = call ptr @mutex_of(i64 %thread)
  %condition = call ptr @condition_of(i64 %thread)
  %i1 = call i32 @pthread_mutex_init(ptr %mutex, ptr null)
  %i2 = call i32 @pthread_cond_init(ptr %condition, ptr null)
  %patience = load i64, ptr getelementptr (%pool, ptr @pool, i64 0, i32 2)
  br label %idle
idle:
  %last = phi i64 [ 0, %start ], [ %given, %job ]
  br label %spin
spin:
  %spins = phi i64 [ 0, %idle ], [ %more, %wait ]
  %now = load atomic i64, ptr %ticket acquire, align 8
  %new = icmp ne i64 %now, %last
  br i1 %new, label %job, label %wait
wait:
  call void @pause()
  %more = add i64 %spins, 1
  %patient = icmp slt i64 %more, %patience
  br i1 %patient, label %spin, label %lie.down
lie.down:
  %i3 = call i32 @pthread_mutex_lock(ptr %mutex)
  store atomic i64 1, ptr %sleeping seq_cst, align 8
  br label %asleep
asleep:
  %then = load atomic i64, ptr %ticket seq_cst, align 8
  %called = icmp ne i64 %then, %last
  br i1 %called, label %get.up, label %sleep
sleep:
  %i4 = call i32 @pthread_cond_wait(ptr %condition, ptr %mutex)
  br label %asleep
get.up:
  store atomic i64 0, ptr %sleeping seq_cst, align 8
  %i5 = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %job
job:
  %given = phi i64 [ %now, %spin ], [ %then, %get.up ]
  call void @take_part(i64 %thread)
  br label %idle
}

; For measuring how long a spin takes.
define void @chainrule_spin(i64 %spins) {
start:
  br label %again
again:
  %left = phi i64 [ %spins, %start ], [ %fewer, %again ]
  call void @pause()
  %fewer = sub i64 %left, 1
  %over = icmp sle i64 %fewer, 0
  br i1 %over, label %return, label %again
return:
  ret void
}
