#include "infer/engine.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "infer/log_probabilities.h"
#include "infer/sequence.h"

namespace moe {
namespace {

PagedSizes paged_sizes(const ModelConfig& config, const EngineSizes& sizes) {
  return {.sequences = sizes.sequences,
          .pages = sizes.pages,
          .pages_each = pages_for(sizes.longest),
          .tokens = sizes.tokens_per_pass,
          .scores = sizes.scores,
          .chosen_experts = sizes.experts && config.moe_layers() > 0};
}

int64_t count_of(const std::vector<int32_t>& ids) { return static_cast<int64_t>(ids.size()); }

/// Tokens of whole pages at the beginning of a prompt that need not be computed if they are in the cache. At least one
/// token is computed, and every one whose logits score another.
int64_t reusable_pages(const Request& request) {
  int64_t tokens = count_of(request.prompt.ids) - 1;
  if (request.score_from) tokens = std::min(tokens, *request.score_from - 1);
  return tokens / kPageTokens;
}

std::vector<bool> allowed_ids(const Tokenizer* tokenizer, int64_t vocab_size) {
  if (tokenizer == nullptr) return std::vector<bool>(static_cast<size_t>(vocab_size), true);
  return ids_with_token(*tokenizer, vocab_size);
}

}  // namespace

int64_t cached_tokens(const Request& request, const ModelConfig& config) {
  const int64_t prompt = count_of(request.prompt.ids);
  if (request.only_score) return prompt - 1;
  return prompt + limits_of(request.prompt, request.options, config).new_tokens - 1;
}

EngineSizes engine_sizes(const ModelConfig& config, const std::vector<Request>& requests, int64_t most_sequences,
                         int64_t tokens_per_pass) {
  EngineSizes sizes{.sequences = std::min(most_sequences, static_cast<int64_t>(requests.size()))};
  std::vector<int64_t> pages;
  int64_t prompts = 0;
  for (const Request& request : requests) {
    const int64_t tokens = cached_tokens(request, config);
    pages.push_back(pages_for(tokens));
    prompts += count_of(request.prompt.ids);
    sizes.longest = std::max(sizes.longest, tokens);
    sizes.scores |= request.score_from.has_value();
    sizes.experts |= request.experts;
  }
  std::sort(pages.begin(), pages.end(), std::greater<>());
  sizes.pages = std::max<int64_t>(1, std::accumulate(pages.begin(), pages.begin() + sizes.sequences, int64_t{0}));
  sizes.tokens_per_pass = std::max(sizes.sequences, std::min(prompts, tokens_per_pass));
  return sizes;
}

/// A request that has its place.
struct Engine::Running {
  int64_t id;
  Request request;
  Sequence sequence;
  int64_t row;                 // of the page table
  std::vector<int32_t> pages;  // in the order of its tokens
  int64_t most_pages;          // that it may list before it ends
  int64_t computed;            // tokens that are in the cache
  int64_t published;           // pages that were offered to the pool
  bool row_is_current = false;
  std::vector<double> scores = {};

  const std::vector<int32_t>& ids() const { return sequence.ids(); }
  int64_t prompt_tokens() const { return count_of(request.prompt.ids); }
  /// Tokens to compute before the next token can be chosen, or the last one be scored.
  int64_t left() const { return count_of(ids()) - (request.only_score ? 1 : 0) - computed; }
  bool reads_prompt() const { return computed < prompt_tokens(); }
};

/// The next tokens of one sequence in a pass.
struct Engine::Work {
  Running* running;
  int64_t tokens;
};

Engine::Engine(const ModelOnDevice& runtime, const Tokenizer* tokenizer, const EngineSizes& sizes)
    : runtime_(runtime),
      tokenizer_(tokenizer),
      sizes_(sizes),
      model_((check_generates(runtime.model.config()), runtime), paged_sizes(runtime.model.config(), sizes)),
      pool_(sizes.pages, kPageTokens),
      sampler_({}, allowed_ids(tokenizer, runtime.model.config().vocab_size)) {
  MOE_CHECK(sizes.tokens_per_pass >= sizes.sequences && sizes.longest > 0);
  if (tokenizer != nullptr) check_tokenizer(*tokenizer, runtime.model.config());
  for (int64_t row = sizes.sequences; row-- > 0;) free_rows_.push_back(row);
}

Engine::~Engine() = default;

int64_t Engine::bytes(const ModelConfig& config, const PassTypes& types, const EngineSizes& sizes) {
  return PagedModel::bytes(config, types, paged_sizes(config, sizes));
}

EngineCounts Engine::counts() const {
  EngineCounts counts = counts_;
  counts.pages_in_use = sizes_.pages - pool_.available();
  counts.pages_kept = pool_.unowned();
  counts.waiting = static_cast<int64_t>(waiting_.size());
  counts.running = static_cast<int64_t>(running_.size());
  return counts;
}

void Engine::check(const Request& request) const {
  const ModelConfig& config = runtime_.model.config();
  validate(request.options);
  check_prompt(request.prompt, config, request.only_score ? 0 : 1);
  if (!request.only_score) check_context(request.prompt, request.options);
  const int64_t prompt = count_of(request.prompt.ids);
  if (request.only_score && !request.score_from) fail("the request neither scores nor generates; ask for one of them");
  if (request.score_from && (*request.score_from < 1 || *request.score_from >= prompt)) {
    fail(
        "the ids from number {} on are to be scored, expected one from 1 to {}, the last of {} (the first id has none "
        "before it)",
        *request.score_from, prompt - 1, prompt);
  }
  if (request.logprobs && *request.logprobs < 0) {
    fail("the {} most likely tokens are wanted, expected 0 or more", *request.logprobs);
  }
  MOE_CHECK((sizes_.scores || !request.score_from) && (sizes_.experts || !request.experts));
  const int64_t tokens = cached_tokens(request, config);
  const int64_t room = std::min(sizes_.longest, sizes_.pages * kPageTokens);
  if (tokens > room) {
    fail(
        "a request of {} tokens and {} new ones needs a cache of {} tokens, and there is one of {}; shorten the "
        "prompt, "
        "ask for fewer new tokens, or give the cache more memory",
        prompt, tokens - prompt + 1, tokens, room);
  }
}

int64_t Engine::admit(const Request& request) {
  check(request);
  waiting_.push_back({next_id_, request});
  return next_id_++;
}

bool Engine::cancel(int64_t request) {
  const auto waiting =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& one) { return one.id == request; });
  if (waiting != waiting_.end()) {
    waiting_.erase(waiting);
    return true;
  }
  const auto running =
      std::find_if(running_.begin(), running_.end(), [&](const Running& one) { return one.id == request; });
  if (running == running_.end()) return false;
  give_back(*running);
  running_.erase(running);
  return true;
}

void Engine::forget_prefixes() {
  MOE_CHECK(idle());
  pool_.forget();
}

// Another request is computing more whole pages of the same text than are there yet.
bool Engine::should_wait_for_pages(const Request& request, int64_t found) const {
  const std::vector<int32_t>& ids = request.prompt.ids;
  const int64_t most = reusable_pages(request);
  return std::any_of(running_.begin(), running_.end(), [&](const Running& other) {
    if (!other.reads_prompt()) return false;
    const std::vector<int32_t>& theirs = other.request.prompt.ids;
    const auto same = std::mismatch(ids.begin(), ids.end(), theirs.begin(), theirs.end()).first - ids.begin();
    const int64_t pages = std::min<int64_t>(same / kPageTokens, most);
    return pages > found && other.computed < pages * kPageTokens &&
           other.left() + other.computed >= pages * kPageTokens;
  });
}

Engine::Start Engine::start(const Waiting& waiting) {
  const Request& request = waiting.request;
  const ModelConfig& config = runtime_.model.config();
  std::vector<int32_t> found = pool_.find(request.prompt.ids, reusable_pages(request));
  const auto found_count = static_cast<int64_t>(found.size());
  if (should_wait_for_pages(request, found_count)) return Start::waits_for_pages;
  const int64_t most_pages = pages_for(cached_tokens(request, config)), fresh = most_pages - found_count;
  const auto kept = std::count_if(found.begin(), found.end(), [&](int32_t page) { return pool_.owners(page) == 0; });
  if (free_rows_.empty() || pool_.available() - kept - reserved_ < fresh) return Start::no_room;

  running_.push_back({.id = waiting.id,
                      .request = request,
                      .sequence = {tokenizer_, config, request.prompt, request.options},
                      .row = free_rows_.back(),
                      .pages = found,
                      .most_pages = most_pages,
                      .computed = found_count * kPageTokens,
                      .published = found_count});
  pool_.share(found);
  free_rows_.pop_back();
  reserved_ += fresh;
  counts_.reused_tokens += found_count * kPageTokens;
  return Start::started;
}

void Engine::start_waiting() {
  int64_t passed_over = 0;
  for (auto next = waiting_.begin(); next != waiting_.end() && passed_over < sizes_.sequences;) {
    const Start result = start(*next);
    if (result == Start::no_room) return;
    if (result == Start::started) {
      next = waiting_.erase(next);
    } else {
      ++passed_over, ++next;
    }
  }
}

// Single tokens go into every pass. Pieces of prompts fill the rest, the first comer's first; they stand before the
// single tokens, so that mostly the last rows are those whose logits are wanted.
std::vector<Engine::Work> Engine::plan_pass() {
  std::vector<Work> singles, pieces;
  int64_t room = sizes_.tokens_per_pass;
  for (Running& running : running_) {
    if (running.left() != 1) continue;
    singles.push_back({&running, 1});
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

PagedPass Engine::make_pass(const std::vector<Work>& works) {
  PagedPass pass;
  for (const Work& work : works) {
    Running& running = *work.running;
    give_pages(running, work.tokens);
    for (int64_t position = running.computed; position < running.computed + work.tokens; ++position) {
      const Request& request = running.request;
      if (request.score_from && position + 1 >= *request.score_from && position + 1 < running.prompt_tokens()) {
        pass.scored.push_back(static_cast<int32_t>(pass.ids.size()));
        pass.targets.push_back(request.prompt.ids[static_cast<size_t>(position + 1)]);
      }
      pass.ids.push_back(running.ids()[static_cast<size_t>(position)]);
      pass.sequence.push_back(static_cast<int32_t>(running.row));
      pass.positions.push_back(static_cast<int32_t>(position));
    }
    if (work.tokens < running.left() || running.request.only_score) continue;
    pass.wanted.push_back(static_cast<int32_t>(pass.ids.size()) - 1);
    pass.chosen_experts |= running.request.experts && sizes_.experts && runtime_.model.config().moe_layers() > 0;
  }
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
  try {
    sampler_.use(running.request.options.sampling);
    event.text = running.sequence.extend(sampler_, logits);
  } catch (const Error& error) {
    event.error = error.what();
    event.ended = true;
    return;
  }
  event.id = running.ids().back();
  event.ended = running.sequence.ended();
  event.reason = running.sequence.reason();
  if (!running.request.logprobs) return;
  const LogProbabilities probabilities(logits);
  event.logprob = probabilities.of(*event.id);
  event.most_likely = probabilities.most_likely(*running.request.logprobs);
}

void Engine::give_back(Running& running) {
  reserved_ -= running.most_pages - static_cast<int64_t>(running.pages.size());
  pool_.release(running.pages);
  free_rows_.push_back(running.row);
}

std::vector<Event> Engine::step() {
  start_waiting();
  const std::vector<Work> works = plan_pass();
  if (works.empty()) return {};
  const PagedPass pass = make_pass(works);
  const PagedResult result = model_.run(pass);
  ++counts_.passes;

  std::vector<Event> events;
  const auto vocabulary = static_cast<size_t>(runtime_.model.config().vocab_size);
  size_t wanted = 0, scored = 0, end = 0;
  for (const Work& work : works) {
    Running& running = *work.running;
    end += static_cast<size_t>(work.tokens);
    for (; scored < pass.scored.size() && static_cast<size_t>(pass.scored[scored]) < end; ++scored) {
      running.scores.push_back(-result.losses[scored]);
    }
    advance(running, work.tokens);
    if (running.left() > 0) continue;
    Event event{.request = running.id, .scores = std::exchange(running.scores, {})};
    if (running.request.only_score) {
      event.ended = true;
    } else {
      choose(running, std::span(result.logits).subspan(wanted++ * vocabulary, vocabulary), event);
      if (pass.chosen_experts && running.request.experts) event.experts = experts_of(result, pass.ids.size(), end - 1);
    }
    events.push_back(std::move(event));
  }
  for (const Event& event : events) {
    if (event.ended) cancel(event.request);
  }
  std::sort(events.begin(), events.end(), [](const Event& a, const Event& b) { return a.request < b.request; });
  return events;
}

// The choices of one token of the pass, layer by layer.
std::vector<int32_t> Engine::experts_of(const PagedResult& result, size_t tokens, size_t token) const {
  const auto layers = static_cast<size_t>(runtime_.model.config().moe_layers());
  const size_t choices = result.experts.size() / (layers * tokens);
  std::vector<int32_t> experts;
  for (size_t layer = 0; layer < layers; ++layer) {
    const auto first = result.experts.begin() + static_cast<int64_t>((layer * tokens + token) * choices);
    experts.insert(experts.end(), first, first + static_cast<int64_t>(choices));
  }
  return experts;
}

}  // namespace moe
