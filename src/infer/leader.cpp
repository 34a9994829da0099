#include "infer/leader.h"

#include "infer/rank_calls.h"

namespace moe {

void Leader::begin(const PagedSizes& sizes) {
  WordWriter words(calls_);
  words.add(Call::begin);
  add(words, sizes);
  send();
}

void Leader::set_pages(int64_t sequence, const std::vector<int32_t>& pages) {
  WordWriter words(calls_);
  words.add(Call::set_pages);
  words.add(sequence);
  words.add(pages);
}

void Leader::copy_page(int32_t from, int32_t to, int64_t tokens) {
  WordWriter words(calls_);
  words.add(Call::copy_page);
  words.add(from);
  words.add(to);
  words.add(tokens);
}

void Leader::set_allowed(const std::vector<int32_t>& allowed) {
  WordWriter words(calls_);
  words.add(Call::set_allowed);
  words.add(allowed);
}

void Leader::set_history(int64_t sequence, const std::vector<int32_t>& ids) {
  WordWriter words(calls_);
  words.add(Call::set_history);
  words.add(sequence);
  words.add(ids);
}

void Leader::run(const PagedPass& pass) {
  WordWriter words(calls_);
  words.add(Call::run);
  add(words, pass);
  send();
}

void Leader::begin_steps(const std::vector<StepRow>& rows) {
  WordWriter words(calls_);
  words.add(Call::begin_steps);
  add(words, rows);
}

void Leader::queue_step() {
  WordWriter(calls_).add(Call::queue_step);
  send();
}

void Leader::read_step() { WordWriter(calls_).add(Call::read_step); }

void Leader::set_switches(const RoutingSwitches& switches) {
  WordWriter words(calls_);
  words.add(Call::set_switches);
  add(words, switches);
  send();
}

void Leader::end() {
  WordWriter(calls_).add(Call::end);
  send();
}

void Leader::send() {
  const Together together(this);
  communicator_.gather(calls_);
  calls_.clear();
}

}  // namespace moe
