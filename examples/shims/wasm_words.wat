;; Wasm: a WASI command module. It reads all of stdin and writes how many words there are.
(module
  (import "wasi_snapshot_preview1" "fd_read"
    (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write"
    (func $fd_write (param i32 i32 i32 i32) (result i32)))

  ;; 0: an iovec (pointer, length); 8: bytes read or written; 16 to 32: the answer; 1024: the input.
  (memory (export "memory") 2)

  (func $count (param $words i32) (param $inside i32) (param $got i32) (result i32 i32)
    (local $at i32)
    (loop $next
      (if (i32.lt_u (local.get $at) (local.get $got))
        (then
          (if (i32.le_u (i32.load8_u offset=1024 (local.get $at)) (i32.const 32))
            (then (local.set $inside (i32.const 0)))
            (else
              (local.set $words
                (i32.add (local.get $words) (i32.eqz (local.get $inside))))
              (local.set $inside (i32.const 1))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br $next))))
    (local.get $words) (local.get $inside))

  (func $print (param $number i32) (local $at i32)
    (local.set $at (i32.const 32))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (local.set $number (i32.div_u (local.get $number) (i32.const 10)))
      (br_if $digit (local.get $number)))
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (i32.sub (i32.const 32) (local.get $at)))
    (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))

  (func (export "_start") (local $words i32) (local $inside i32)
    (loop $more
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (call $count (local.get $words) (local.get $inside) (i32.load (i32.const 8)))
      (local.set $inside) (local.set $words)
      (br_if $more (i32.load (i32.const 8))))
    (call $print (local.get $words))))
