; Running a program that has a single share of everything. Comes behind runtime.ll; a process whose programs are all like
; that needs nothing else.

; Run a program. Returns 0: no workers are missing.
define i32 @chainrule_run(ptr %program) {
start:
  %at.marks = getelementptr %program, ptr %program, i64 0, i32 8
  %marks = load i64, ptr %at.marks
  %flush.mark = and i64 %marks, 1
  %flush = icmp ne i64 %flush.mark, 0
  call void @take_arrays(ptr %program)
  br i1 %flush, label %set, label %perform
set:
  %mode = call i32 @flush_subnormals()
  br label %perform
perform:
  %mode.before = phi i32 [ 0, %start ], [ %mode, %set ]
  call void @perform_alone(ptr %program)
  br i1 %flush, label %reset, label %return
reset:
  call void @restore(i32 %mode.before)
  br label %return
return:
  ret i32 0
}
