#include "infer/engine.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "infer/engine_running.h"

namespace moe {
namespace {

PagedSizes paged_sizes(const ModelConfig& config, const EngineSizes& sizes) {
  return {.sequences = sizes.sequences,
          .pages = sizes.pages,
          .pages_each = pages_for(sizes.longest),
          .tokens = sizes.tokens_per_pass,
          .logits = std::max(sizes.sequences, 1 + sizes.drafts),
          .scores = sizes.scores,
          .chosen_experts = sizes.experts && config.moe_layers() > 0,
          .chooses = sizes.on_device,
          .penalties = sizes.on_device && sizes.penalties};
}

/// Fewer tokens are computed sooner than copied. Many texts begin with the same few.
constexpr int64_t kLeastCopied = 8;

/// Tokens at the beginning of a prompt that need not be computed if they are in the cache. At least one token is
/// computed, and every one whose logits score another.
int64_t reusable_tokens(const Request& request) {
  int64_t tokens = count_of(request.prompt.ids) - 1;
  if (request.score_from) tokens = std::min(tokens, *request.score_from - 1);
  return tokens;
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
                         int64_t tokens_per_pass, bool on_device) {
  EngineSizes sizes{.sequences = std::min(most_sequences, static_cast<int64_t>(requests.size())),
                    .on_device = on_device};
  std::vector<int64_t> pages;
  int64_t prompts = 0;
  for (const Request& request : requests) {
    const int64_t tokens = cached_tokens(request, config);
    pages.push_back(pages_for(tokens));
    prompts += count_of(request.prompt.ids);
    sizes.longest = std::max(sizes.longest, tokens);
    sizes.scores |= request.score_from.has_value();
    sizes.experts |= request.experts || request.prompt_experts;
    sizes.penalties |= request.options.sampling.penalises();
    sizes.drafts = std::max(sizes.drafts, request.options.prompt_lookup);
  }
  std::sort(pages.begin(), pages.end(), std::greater<>());
  sizes.pages = std::max<int64_t>(1, std::accumulate(pages.begin(), pages.begin() + sizes.sequences, int64_t{0}));
  sizes.tokens_per_pass = std::max({sizes.sequences, 1 + sizes.drafts, std::min(prompts, tokens_per_pass)});
  return sizes;
}

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
  if (!sizes.on_device) return;
  const std::vector<bool> allowed = allowed_ids(tokenizer, runtime.model.config().vocab_size);
  model_.set_allowed({allowed.begin(), allowed.end()});
}

Engine::~Engine() = default;

int64_t Engine::bytes(const HeldModel& held, const PassTypes& types, const EngineSizes& sizes) {
  return PagedModel::bytes(held, types, paged_sizes(held.config, sizes));
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
  validate(request.options);
  check_prompt(request.prompt, config(), request.only_score ? 0 : 1);
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
  MOE_CHECK((sizes_.scores || !request.score_from) && (sizes_.experts || !(request.experts || request.prompt_experts)));
  MOE_CHECK(sizes_.penalties || !sizes_.on_device || !request.options.sampling.penalises());
  const int64_t tokens = cached_tokens(request, config());
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
  newcomers_ = true;
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
  // A step that is queued already computes one more token of it. Its pages and its row of the table serve others only
  // in work that is queued behind that step.
  std::replace(step_rows_.begin(), step_rows_.end(), &*running, static_cast<Running*>(nullptr));
  running_.erase(running);
  return true;
}

void Engine::forget_prefixes(std::span<const int32_t> but) {
  MOE_CHECK(idle());
  drop_unread_steps();
  pool_.forget_all_but(but);
}

void Engine::set_model(const ModelOnDevice& runtime) {
  MOE_CHECK(idle());
  drop_unread_steps();
  model_.set_model(runtime);
  runtime_.emplace(runtime);
}

// Another request is computing more whole pages of the same text than are there yet.
bool Engine::should_wait_for_pages(const Request& request, int64_t found) const {
  const std::vector<int32_t>& ids = request.prompt.ids;
  const int64_t most = reusable_tokens(request) / kPageTokens;
  return std::any_of(running_.begin(), running_.end(), [&](const Running& other) {
    if (!other.reads_prompt()) return false;
    const std::vector<int32_t>& theirs = other.request.prompt.ids;
    const auto same = std::mismatch(ids.begin(), ids.end(), theirs.begin(), theirs.end()).first - ids.begin();
    const int64_t pages = std::min<int64_t>(same / kPageTokens, most);
    return pages > found && other.computed < pages * kPageTokens &&
           other.left() + other.computed >= pages * kPageTokens;
  });
}

// A page of its own with the first tokens of another one.
std::vector<int32_t> Engine::copy_of(const PageBeginning& part) {
  const std::vector<int32_t> source{part.page};
  pool_.share(source);  // so that it is not the page that is taken
  const std::vector<int32_t> copy{pool_.take()};
  try {
    model_.copy_page(part.page, copy.front(), part.tokens);
  } catch (...) {
    pool_.release(copy);
    pool_.release(source);
    throw;
  }
  pool_.release(source);
  return copy;
}

Engine::Start Engine::start(const Waiting& waiting) {
  const Request& request = waiting.request;
  const auto reusable = static_cast<size_t>(reusable_tokens(request));
  const std::span<const int32_t> ids = std::span(request.prompt.ids).first(reusable);
  std::vector<int32_t> pages = pool_.find(ids, static_cast<int64_t>(reusable) / kPageTokens);
  const auto found = static_cast<int64_t>(pages.size());
  if (should_wait_for_pages(request, found)) return Start::waits_for_pages;
  const int64_t most_pages = pages_for(cached_tokens(request, config())), fresh = most_pages - found;
  const auto unowned = [&](int32_t page) { return pool_.owners(page) == 0; };
  const int64_t room = pool_.available() - std::count_if(pages.begin(), pages.end(), unowned) - reserved_;
  if (free_rows_.empty() || room < fresh) return Start::no_room;

  PageBeginning part = pool_.find_beginning(found == 0 ? -1 : pages.back(), ids.subspan(pages.size() * kPageTokens));
  if (part.tokens < kLeastCopied || room - (unowned(part.page) ? 1 : 0) < fresh) part = {};
  pool_.share(pages);
  try {
    if (part.tokens > 0) pages.push_back(copy_of(part).front());
  } catch (...) {
    pool_.release(pages);
    throw;
  }
  const int64_t reused = found * kPageTokens + part.tokens;
  reserved_ += most_pages - count_of(pages);
  running_.push_back({.id = waiting.id,
                      .request = request,
                      .sequence = {tokenizer_, config(), request.prompt, request.options},
                      .row = free_rows_.back(),
                      .pages = std::move(pages),
                      .most_pages = most_pages,
                      .computed = reused,
                      .published = found});
  free_rows_.pop_back();
  counts_.reused_tokens += reused;
  return Start::started;
}

void Engine::start_waiting() {
  newcomers_ = false;
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

void Engine::give_back(Running& running) {
  // The last page has no more than these tokens, unless the text goes on in a copy of it.
  const int64_t rest = running.computed - running.published * kPageTokens;
  if (rest > 0) {
    const auto page = static_cast<size_t>(running.published);
    pool_.publish(running.pages[page], page == 0 ? -1 : running.pages[page - 1],
                  std::span(running.ids()).subspan(page * kPageTokens, static_cast<size_t>(rest)));
  }
  reserved_ -= running.most_pages - static_cast<int64_t>(running.pages.size());
  pool_.release(running.pages);
  free_rows_.push_back(running.row);
}

}  // namespace moe
