; Going through the stages of a program, on one thread.
;
; threads.py puts the processor's part in front (@pause, @flush_subnormals, @restore), and mirrors the structures. Behind
; come run_alone.ll, or run_shared.ll, in which several threads do the same work.
;
; A program is a list of stages, each of which has so many shares.

; 0 and 1 begin and end of the stages, 2 address in each slot, 3 address of the NumPy array in a slot, or null,
; 4 and 5 begin and end of the numbers of the slots that arrays may be given for, 6 threads, 7 largest number of
; arguments, 8 marks, 9 where in an array object its data pointer is, in bytes.
%program = type { ptr, ptr, ptr, ptr, ptr, ptr, i64, i64, i64, i64 }

; 0 and 1 begin and end of its rows, 2 shares. A row is a kernel, the number of its arguments, and a %where for each.
%stage = type { ptr, ptr, i64 }

; An argument: 0 its slot, 1 how many bytes further than the slot's address it points.
%where = type { i64, i64 }

; Call the kernels of a stage for one share.
define internal void @work(ptr %program, ptr %arguments, ptr %stage, i64 %share) {
start:
  %at.slots = getelementptr %program, ptr %program, i64 0, i32 2
  %slots = load ptr, ptr %at.slots
  %at.end = getelementptr %stage, ptr %stage, i64 0, i32 1
  %at.shares = getelementptr %stage, ptr %stage, i64 0, i32 2
  %first = load ptr, ptr %stage
  %end = load ptr, ptr %at.end
  %shares = load i64, ptr %at.shares
  br label %row
row:
  %here = phi ptr [ %first, %start ], [ %following, %call ]
  %kernel = load ptr, ptr %here
  %at.count = getelementptr i64, ptr %here, i64 1
  %count = load i64, ptr %at.count
  %row.places = getelementptr i64, ptr %here, i64 2
  %following = getelementptr %where, ptr %row.places, i64 %count
  br label %gather
gather:
  %i = phi i64 [ 0, %row ], [ %i.next, %one ]
  %gathered = icmp eq i64 %i, %count
  br i1 %gathered, label %call, label %one
one:
  %at.slot = getelementptr %where, ptr %row.places, i64 %i
  %at.further = getelementptr %where, ptr %row.places, i64 %i, i32 1
  %slot = load i64, ptr %at.slot
  %further = load i64, ptr %at.further
  %at.address = getelementptr ptr, ptr %slots, i64 %slot
  %begin = load ptr, ptr %at.address
  %address = getelementptr i8, ptr %begin, i64 %further
  %at.argument = getelementptr ptr, ptr %arguments, i64 %i
  store ptr %address, ptr %at.argument
  %i.next = add i64 %i, 1
  br label %gather
call:
  call void %kernel(ptr %arguments, i64 %share, i64 %shares)
  %over = icmp eq ptr %following, %end
  br i1 %over, label %return, label %row
return:
  ret void
}

; Go through a program alone.
define internal void @perform_alone(ptr %program) {
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
  %over = icmp eq ptr %stage, %end
  br i1 %over, label %return, label %begin
begin:
  %following = getelementptr %stage, ptr %stage, i64 1
  %at.shares = getelementptr %stage, ptr %stage, i64 0, i32 2
  %shares = load i64, ptr %at.shares
  br label %each
each:
  %share = phi i64 [ 0, %begin ], [ %share.next, %each ]
  call void @work(ptr %program, ptr %arguments, ptr %stage, i64 %share)
  %share.next = add i64 %share, 1
  %all = icmp eq i64 %share.next, %shares
  br i1 %all, label %next, label %each
return:
  ret void
}

; Take the data pointers of NumPy arrays given by the address of the array object.
define internal void @take_arrays(ptr %program) {
start:
  %at.slots = getelementptr %program, ptr %program, i64 0, i32 2
  %at.objects = getelementptr %program, ptr %program, i64 0, i32 3
  %at.numbers = getelementptr %program, ptr %program, i64 0, i32 4
  %at.numbers.end = getelementptr %program, ptr %program, i64 0, i32 5
  %slots = load ptr, ptr %at.slots
  %objects = load ptr, ptr %at.objects
  %numbers = load ptr, ptr %at.numbers
  %end = load ptr, ptr %at.numbers.end
  %at.offset = getelementptr %program, ptr %program, i64 0, i32 9
  %offset = load i64, ptr %at.offset
  br label %look
look:
  %here = phi ptr [ %numbers, %start ], [ %next, %again ]
  %over = icmp eq ptr %here, %end
  br i1 %over, label %return, label %one
one:
  %slot = load i64, ptr %here
  %next = getelementptr i64, ptr %here, i64 1
  %at.object = getelementptr ptr, ptr %objects, i64 %slot
  %object = load ptr, ptr %at.object
  %none = icmp eq ptr %object, null
  br i1 %none, label %again, label %take
take:
  %at.data = getelementptr i8, ptr %object, i64 %offset
  %data = load ptr, ptr %at.data
  %at.address = getelementptr ptr, ptr %slots, i64 %slot
  store ptr %data, ptr %at.address
  br label %again
again:
  br label %look
return:
  ret void
}
