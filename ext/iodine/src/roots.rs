//! Ruby values that the server keeps: handlers and blocks, each known elsewhere by its number.
//!
//! One object with a mark function holds them all, because a global address per value is a list that the collector
//! walks. Numbers may be dropped on any thread, which only queues them; the table is swept under the GVL, at the latest
//! when the collector looks at it.

use crossbeam_queue::SegQueue;
use iodine_core::Root;
use rb_sys::VALUE;
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

struct Table(UnsafeCell<Slots>);

struct Slots {
    values: Vec<VALUE>,
    free: Vec<Root>,
}

// SAFETY: only touched with the GVL held: by the functions here, whose callers hold it, and by the collector.
unsafe impl Sync for Table {}

static TABLE: Table = Table(UnsafeCell::new(Slots { values: Vec::new(), free: Vec::new() }));
static DROPPED: SegQueue<Root> = SegQueue::new();

/// The process that serves. In a child that the application forks, a thread that is not there may have been about to drop
/// a number, and a sweep would wait for it for ever.
static SERVING: AtomicU32 = AtomicU32::new(0);

/// What is in a place whose number nobody has. It is no value that anybody could keep.
const EMPTY: VALUE = rb_sys::Qundef as VALUE;

unsafe extern "C" fn mark(_: *mut c_void) {
    if SERVING.load(Relaxed) == process::id() {
        sweep();
    }
    // SAFETY: the collector runs with the GVL held, and no code here allocates in Ruby while it changes the table.
    let slots = unsafe { &*TABLE.0.get() };
    for value in &slots.values {
        // SAFETY: a live value, or no object at all; marking pins it, so that compaction leaves it where we know it to be.
        unsafe { rb_sys::rb_gc_mark(*value) };
    }
}

struct DataType(rb_sys::rb_data_type_t);

// SAFETY: constant data.
unsafe impl Sync for DataType {}

static DATA_TYPE: DataType = DataType(rb_sys::rb_data_type_t {
    wrap_struct_name: c"Iodine::Base::Roots".as_ptr(),
    function: rb_sys::rb_data_type_struct__bindgen_ty_1 {
        dmark: Some(mark),
        dfree: None,
        dsize: None,
        dcompact: None,
        reserved: [std::ptr::null_mut(); 1],
    },
    parent: std::ptr::null(),
    data: std::ptr::null_mut(),
    flags: 0,
});

/// Makes the table known to the collector. Called once, with the GVL.
pub fn init() {
    // SAFETY: the GVL is held during Init_iodine. The data pointer only has to be non-null for `mark` to be called.
    unsafe {
        let object = rb_sys::rb_data_typed_object_wrap(
            rb_sys::rb_cObject,
            TABLE.0.get().cast(),
            &raw const DATA_TYPE.0,
        );
        rb_sys::rb_gc_register_mark_object(object);
    }
}

/// The calling process serves from here on: the collector may sweep.
pub fn serve() {
    SERVING.store(process::id(), Relaxed);
}

/// Keeps `value` until its number is released. The GVL is held.
pub fn add(value: VALUE) -> Root {
    sweep();
    // SAFETY: the GVL is held and nothing below calls Ruby.
    let slots = unsafe { &mut *TABLE.0.get() };
    match slots.free.pop() {
        Some(root) => {
            slots.values[root as usize] = value;
            root
        }
        None => {
            slots.values.push(value);
            (slots.values.len() - 1) as Root
        }
    }
}

/// The value with this number; nil when it was released. The GVL is held.
pub fn value(root: Root) -> VALUE {
    // SAFETY: the GVL is held.
    let slots = unsafe { &*TABLE.0.get() };
    slots.values.get(root as usize).copied().filter(|value| *value != EMPTY).unwrap_or(rb_sys::Qnil as VALUE)
}

/// Releases a number, on any thread.
pub fn release(root: Root) {
    DROPPED.push(root);
}

/// Tells the collector that `value` can be reached from `object` from now on. To be called for every value stored into an
/// object that is there already, if its class promises write barriers (`wb_protected`). The GVL is held.
pub fn note_reference(object: VALUE, value: VALUE) {
    if !rb_sys::SPECIAL_CONST_P(value) {
        // SAFETY: the GVL is held; both are live objects.
        unsafe { rb_sys::rb_gc_writebarrier(object, value) };
    }
}

fn sweep() {
    // SAFETY: the GVL is held (see `add`) and nothing below calls Ruby.
    let slots = unsafe { &mut *TABLE.0.get() };
    while let Some(root) = DROPPED.pop() {
        let Some(value) = slots.values.get_mut(root as usize) else { continue };
        debug_assert_ne!(*value, EMPTY, "released twice");
        // Free twice, it would be given to two at a time.
        if std::mem::replace(value, EMPTY) != EMPTY {
            slots.free.push(root);
        }
    }
}
