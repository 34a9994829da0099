#pragma once
/// A list that a signal handler may read at any moment, and what a handler may say.

#include <atomic>
#include <cstring>

#include <unistd.h>

namespace moe {

/// Entries are used again and never freed. An Entry has `next`, and a `state` that is Entry::unused or Entry::changing
/// while a handler must not look at its other members. Any thread may use the list.
template <class Entry>
class HandlerList {
 public:
  /// An entry in the state `changing`; the caller fills it and sets its state.
  Entry* take() {
    for (Entry* entry = first_; entry != nullptr; entry = entry->next) {
      int expected = Entry::unused;
      if (entry->state.compare_exchange_strong(expected, Entry::changing)) return entry;
    }
    auto* const entry = new Entry;
    entry->next = first_;
    while (!first_.compare_exchange_weak(entry->next, entry)) {}
    return entry;
  }

  Entry* first() const noexcept { return first_; }

 private:
  std::atomic<Entry*> first_{nullptr};
};

/// Writes text to standard error. A handler may not allocate memory, so it writes its sentence part by part.
inline void say_in_handler(const char* text) noexcept {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text, std::strlen(text));
}

}  // namespace moe
