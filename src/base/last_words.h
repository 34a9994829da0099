#pragma once
/// A sentence where the language would abort the program.

namespace moe {

/// From now on, an exception that nothing can catch ends the process with status 1 and one sentence. Libraries may need
/// memory while they give memory back, and the system may refuse it there. Doomed paths (base/signal_cleanup.h) are
/// removed before. Call it once, at the start of a program.
void end_with_a_sentence();

}  // namespace moe
