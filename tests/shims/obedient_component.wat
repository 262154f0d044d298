;; obedient.py as a component of the world flame:task: the second byte of an order says which it is.
(component
  (import "wasi:cli/environment@0.2.0" (instance $environment
    (export "get-environment" (func (result (list (tuple string string)))))))

  (core module $heap
    (memory (export "memory") 1)
    (global $top (mut i32) (i32.const 1024))

    ;; Take memory for what comes in, or for an answer; nothing is given back.
    (func $take (export "realloc")
      (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
      (global.set $top (i32.add (local.get $at) (local.get $size)))
      (block $fits
        (loop $more
          (br_if $fits (i32.le_u (global.get $top) (i32.mul (memory.size) (i32.const 65536))))
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
          (br $more)))
      (local.get $at)))
  (core instance $h (instantiate $heap))
  (core func $get_environment (canon lower (func $environment "get-environment")
    (memory (core memory $h "memory")) (realloc (core func $h "realloc"))))

  (core module $m
    (import "heap" "memory" (memory 1))
    (import "heap" "realloc" (func $take (param i32 i32 i32 i32) (result i32)))
    (import "environment" "get" (func $get_environment (param i32)))

    ;; Copy a text (where it is and how long, at $from) to $to, and a byte behind it; returns the end.
    (func $copy (param $from i32) (param $to i32) (param $end i32) (result i32)
      (memory.copy (local.get $to) (i32.load (local.get $from)) (i32.load offset=4 (local.get $from)))
      (local.set $to (i32.add (local.get $to) (i32.load offset=4 (local.get $from))))
      (i32.store8 (local.get $to) (local.get $end))
      (i32.add (local.get $to) (i32.const 1)))

    ;; The environment, a NUL after each variable.
    (func $variables (result i32) (local $pair i32) (local $left i32) (local $at i32) (local $to i32)
      (call $get_environment (i32.const 32))
      (local.set $pair (i32.load (i32.const 32)))
      (local.set $left (i32.load (i32.const 36)))
      (local.set $at (call $take (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 16384)))
      (local.set $to (local.get $at))
      (loop $more
        (local.set $to (call $copy (local.get $pair) (local.get $to) (i32.const 61)))
        (local.set $to
          (call $copy (i32.add (local.get $pair) (i32.const 8)) (local.get $to) (i32.const 0)))
        (local.set $pair (i32.add (local.get $pair) (i32.const 16)))
        (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
      (call $answer (i32.const 0) (local.get $at) (i32.sub (local.get $to) (local.get $at))))

    ;; The result: 0 (bytes) or 1 (an error) at 16, then where it is and how long.
    (func $answer (param $kind i32) (param $at i32) (param $size i32) (result i32)
      (i32.store (i32.const 16) (local.get $kind))
      (i32.store (i32.const 20) (local.get $at))
      (i32.store (i32.const 24) (local.get $size))
      (i32.const 16))

    (func (export "invoke") (param $at i32) (param $size i32) (result i32)
      (local $order i32)
      (if (i32.and (i32.gt_u (local.get $size) (i32.const 1))
                   (i32.eq (i32.load8_u (local.get $at)) (i32.const 33)))  ;; "!"
        (then
          (local.set $order (i32.load8_u offset=1 (local.get $at)))
          (if (i32.eq (local.get $order) (i32.const 102))  ;; "f": after "!fail " stands why
            (then (return (call $answer (i32.const 1)
              (i32.add (local.get $at) (i32.const 6))
              (i32.sub (local.get $size) (i32.const 6))))))
          (if (i32.eq (local.get $order) (i32.const 116)) (then (return (call $variables))))  ;; "t"
          (if (i32.eq (local.get $order) (i32.const 100)) (then unreachable))  ;; "d"
          (if (i32.eq (local.get $order) (i32.const 119)) (then (loop $ever (br $ever))))  ;; "w"
          (if (i32.eq (local.get $order) (i32.const 98))  ;; "b"
            (then (return (call $answer (i32.const 0)
              (call $take (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2097153))
              (i32.const 2097153)))))))
      (call $answer (i32.const 0) (local.get $at) (local.get $size))))

  (core instance $i (instantiate $m
    (with "heap" (instance $h))
    (with "environment" (instance (export "get" (func $get_environment))))))
  (func (export "invoke") (param "input" (list u8)) (result (result (list u8) (error string)))
    (canon lift (core func $i "invoke")
      (memory (core memory $h "memory"))
      (realloc (core func $h "realloc")))))
