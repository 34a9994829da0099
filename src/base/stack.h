#pragma once
/// The memory of the main thread's stack.

namespace moe {

/// Takes the memory that the stack of the main thread will mostly need. The system gives it page by page when it is
/// used first. Under a limit (ulimit -v) it may refuse such a page, and that ends the process without a word, while
/// memory that is asked for is refused by an error. Call it once, at the start of a program.
void reserve_stack();

}  // namespace moe
