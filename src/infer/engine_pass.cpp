#include <algorithm>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "infer/engine.h"
#include "infer/engine_running.h"
#include "infer/log_probabilities.h"
#include "infer/not_finite_place.h"

namespace moe {

// Single tokens go into every pass. Pieces of prompts fill the rest, the first comer's first; they stand before the
// single tokens, so that mostly the last rows are those whose logits are wanted.
Engine::Works Engine::plan_pass() {
  Works singles, pieces;
  int64_t room = sizes_.tokens_per_pass;
  for (Running& running : running_) {
    if (running.left() != 1) continue;
    singles.push_back({&running, 1, draft(running, sizes_.tokens_per_pass - 1)});
    --room;
  }
  for (Running& running : running_) {
    if (running.left() <= 1 || room == 0) continue;
    const int64_t tokens = std::min(running.left(), room);
    pieces.push_back({&running, tokens});
    room -= tokens;
  }
  pieces.insert(pieces.end(), singles.begin(), singles.end());
  return pieces;
}

// Drafts only pay where passes of single tokens leave the machine idle, so only for a sequence by itself.
std::vector<int32_t> Engine::draft(const Running& running, int64_t room) const {
  const Request& request = running.request;
  if (request.options.prompt_lookup == 0 || running_.size() > 1 || running.reads_prompt() || request.only_score)
    return {};
  if (!gain_.wants_draft()) return {};
  const int64_t most = cached_tokens(request, config()) - running.computed - 1;
  return look_up_draft(running.ids(), std::min({request.options.prompt_lookup, sizes_.drafts, room, most}));
}

void Engine::give_pages(Running& running, int64_t tokens) {
  while (static_cast<int64_t>(running.pages.size()) < pages_for(running.computed + tokens)) {
    running.pages.push_back(pool_.take());
    --reserved_;
    running.row_is_current = false;
  }
  if (running.row_is_current) return;
  model_.set_pages(running.row, running.pages);
  running.row_is_current = true;
}

PagedPass Engine::make_pass(const Works& works) {
  PagedPass pass;
  for (const Work& work : works) {
    Running& running = *work.running;
    const Request& request = running.request;
    give_pages(running, work.tokens + count_of(work.draft));
    const auto add = [&](int32_t id, int64_t position) {
      pass.ids.push_back(id);
      pass.sequence.push_back(static_cast<int32_t>(running.row));
      pass.positions.push_back(static_cast<int32_t>(position));
    };
    const auto want_last = [&] { pass.wanted.push_back(static_cast<int32_t>(pass.ids.size()) - 1); };
    int64_t position = running.computed;
    for (; position < running.computed + work.tokens; ++position) {
      if (request.score_from && position + 1 >= *request.score_from && position + 1 < running.prompt_tokens()) {
        pass.scored.push_back(static_cast<int32_t>(pass.ids.size()));
        pass.targets.push_back(request.prompt.ids[static_cast<size_t>(position + 1)]);
      }
      add(running.ids()[static_cast<size_t>(position)], position);
    }
    pass.chosen_experts |= request.prompt_experts && running.reads_prompt();
    if (work.tokens < running.left() || request.only_score) continue;
    want_last();
    for (const int32_t id : work.draft) {
      add(id, position++);
      want_last();
    }
    pass.chosen_experts |= request.experts;
  }
  pass.chosen_experts &= config().moe_layers() > 0;
  return pass;
}

// After the pass: the tokens are in the cache.
void Engine::advance(Running& running, int64_t tokens) {
  (running.reads_prompt() ? counts_.prompt_tokens : counts_.single_tokens) += tokens;
  running.computed += tokens;
  const std::span<const int32_t> ids(running.ids());
  for (; (running.published + 1) * kPageTokens <= running.computed; ++running.published) {
    const auto page = static_cast<size_t>(running.published);
    pool_.publish(running.pages[page], page == 0 ? -1 : running.pages[page - 1],
                  ids.subspan(page * kPageTokens, kPageTokens));
  }
}

void Engine::choose(Running& running, std::span<const float> logits, Event& event) {
  int32_t id = -1;
  try {
    sampler_.use(running.request.options.sampling);
    id = running.sequence.choose(sampler_, logits);
  } catch (const Error& error) {
    event.error = error.what() + not_finite_place(*runtime_, running.ids());
    event.ended = true;
    return;
  }
  running.history_is_current = false;
  take(running, id, event);
  if (!running.request.logprobs) return;
  const LogProbabilities probabilities(logits);
  event.logprob = probabilities.of(id);
  event.most_likely = probabilities.most_likely(*running.request.logprobs);
}

// -1: the device found none.
void Engine::take(Running& running, int32_t id, Event& event) {
  if (id < 0) {
    event.error =
        "no token can follow: a logit is not a finite number (the model's numbers overflow), or every one is -infinity "
        "or belongs to an id without a token";
    event.error += not_finite_place(*runtime_, running.ids());
    event.ended = true;
    return;
  }
  event.text = running.sequence.extend(id);
  event.id = id;
  event.ended = running.sequence.ended();
  event.reason = running.sequence.reason();
}

// Log-probabilities come from the host, and a draft is judged token by token.
bool Engine::chooses_on_device(const Works& works) const {
  return sizes_.on_device && std::none_of(works.begin(), works.end(), [](const Work& work) {
           return work.running->request.logprobs.has_value() || !work.draft.empty();
         });
}

void Engine::set_draws(PagedPass& pass, const Works& works) {
  for (const Work& work : works) {
    Running& running = *work.running;
    if (work.tokens < running.left() || running.request.only_score) continue;
    pass.draws.push_back(draw_of(running));
  }
}

TokenDraw Engine::draw_of(Running& running) {
  const SamplingOptions& options = running.request.options.sampling;
  if (options.penalises() && !running.history_is_current) {
    model_.set_history(running.row, running.ids());
    running.history_is_current = true;
  }
  return token_draw(options, running.request.prompt.sequence);
}

std::vector<Event> Engine::plain_pass(const Works& works) {
  PagedPass pass = make_pass(works);
  if (chooses_on_device(works)) set_draws(pass, works);
  const PagedResult result = model_.run(pass);
  ++counts_.passes;

  std::vector<Event> events;
  const auto vocabulary = static_cast<size_t>(config().vocab_size);
  size_t wanted = 0, scored = 0, end = 0;
  for (const Work& work : works) {
    Running& running = *work.running;
    end += static_cast<size_t>(work.tokens);
    for (; scored < pass.scored.size() && static_cast<size_t>(pass.scored[scored]) < end; ++scored) {
      running.scores.push_back(-result.losses[scored]);
    }
    std::vector<int32_t> of_prompt;
    if (pass.chosen_experts && running.request.prompt_experts && running.reads_prompt()) {
      const auto count = static_cast<size_t>(work.tokens);
      of_prompt = experts_of(result.experts, pass.ids.size(), end - count, count);
    }
    advance(running, work.tokens);
    if (running.left() > 0) {
      if (!of_prompt.empty()) events.push_back({.request = running.id, .prompt_experts = std::move(of_prompt)});
      continue;
    }
    if (running.request.only_score) {
      events.push_back({.request = running.id,
                        .prompt_experts = std::move(of_prompt),
                        .scores = std::exchange(running.scores, {}),
                        .ended = true});
      continue;
    }
    counts_.drafted += count_of(work.draft);
    for (size_t guess = 0;; ++guess, ++end) {
      Event event{.request = running.id,
                  .prompt_experts = std::exchange(of_prompt, {}),
                  .scores = std::exchange(running.scores, {})};
      if (pass.draws.empty()) {
        choose(running, std::span(result.logits).subspan((wanted + guess) * vocabulary, vocabulary), event);
      } else {
        take(running, result.chosen[wanted + guess], event);
      }
      if (pass.chosen_experts && running.request.experts && event.id) {
        event.experts = experts_of(result.experts, pass.ids.size(), end - 1, 1);
      }
      events.push_back(std::move(event));
      // The next row's logits are right if the token before it is.
      if (guess == work.draft.size() || events.back().ended || *events.back().id != work.draft[guess]) {
        end += work.draft.size() - guess;
        break;
      }
      advance(running, 1);
      ++counts_.accepted;
    }
    wanted += 1 + work.draft.size();
  }
  return ended(std::move(events));
}

bool Engine::takes_steps(const Works& works) const {
  return chooses_on_device(works) && works.size() == running_.size() &&
         std::none_of(works.begin(), works.end(), [](const Work& work) {
           const Request& request = work.running->request;
           return work.tokens > 1 || work.running->reads_prompt() || request.only_score;
         });
}

void Engine::begin_steps(const Works& works) {
  std::vector<StepRow> rows;
  step_rows_.clear();
  for (const Work& work : works) {
    Running& running = *work.running;
    rows.push_back({.sequence = static_cast<int32_t>(running.row),
                    .id = running.ids().back(),
                    .position = static_cast<int32_t>(running.computed),
                    .draw = draw_of(running)});
    step_rows_.push_back(&running);
  }
  model_.begin_steps(rows);
}

// Every sequence takes part in the step behind those that are queued, unless one of these ends its text; then the token
// of that step is dropped.
bool Engine::next_step_is_known() const {
  const int64_t queued = model_.unread_steps();
  return !newcomers_ && std::all_of(step_rows_.begin(), step_rows_.end(), [&](const Running* running) {
    if (running == nullptr) return false;
    const Request& request = running->request;
    const bool drafts = request.options.prompt_lookup > 0 && running_.size() == 1 && gain_.wants_draft();
    return !drafts && running->computed + queued < cached_tokens(request, config());
  });
}

void Engine::queue_step() {
  for (Running* running : step_rows_) give_pages(*running, model_.unread_steps() + 1);
  model_.queue_step();
}

std::vector<Event> Engine::read_step() {
  const StepChoices result = model_.read_step();
  ++counts_.passes;
  ++counts_.steps;
  std::vector<Event> events;
  for (size_t row = 0; row < step_rows_.size(); ++row) {
    if (step_rows_[row] == nullptr) continue;
    Running& running = *step_rows_[row];
    advance(running, 1);
    Event event{.request = running.id};
    take(running, result.ids[row], event);
    if (running.request.experts && event.id && !result.experts.empty()) {
      event.experts = experts_of(result.experts, step_rows_.size(), row, 1);
    }
    events.push_back(std::move(event));
  }
  return ended(std::move(events));
}

// Removes the requests that have ended.
std::vector<Event> Engine::ended(std::vector<Event> events) {
  for (const Event& event : events) {
    if (event.ended) cancel(event.request);
  }
  std::stable_sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.request < b.request; });
  return events;
}

// Nobody waits for what they choose.
void Engine::drop_unread_steps() {
  while (model_.unread_steps() > 0) model_.read_step();
}

std::vector<Event> Engine::pass() {
  const auto nobody = [](const Running* running) { return running == nullptr; };
  if (std::all_of(step_rows_.begin(), step_rows_.end(), nobody)) drop_unread_steps();
  if (model_.unread_steps() == 0) {
    start_waiting();
    const Works works = plan_pass();
    if (works.empty()) return {};
    if (!takes_steps(works)) return plain_pass(works);
    begin_steps(works);
    queue_step();
  }
  if (next_step_is_known()) queue_step();
  return read_step();
}

std::vector<Event> Engine::step() {
  const EngineCounts before = counts_;
  const double started = steady_seconds();
  std::vector<Event> events = pass();
  if (sizes_.drafts > 0 && counts_.prompt_tokens == before.prompt_tokens && !events.empty() && running_.size() <= 1) {
    gain_.add(steady_seconds() - started, static_cast<int64_t>(events.size()), counts_.drafted > before.drafted);
  }
  return events;
}

// The choices of some tokens of the pass, token by token.
std::vector<int32_t> Engine::experts_of(const std::vector<int32_t>& of_pass, size_t tokens, size_t first,
                                        size_t count) const {
  const auto layers = static_cast<size_t>(config().moe_layers());
  const size_t choices = of_pass.size() / (layers * tokens);
  std::vector<int32_t> experts;
  for (size_t token = first; token < first + count; ++token) {
    for (size_t layer = 0; layer < layers; ++layer) {
      const auto begin = of_pass.begin() + static_cast<int64_t>((layer * tokens + token) * choices);
      experts.insert(experts.end(), begin, begin + static_cast<int64_t>(choices));
    }
  }
  return experts;
}

}  // namespace moe
