#pragma once
/// Answers many requests at once: each pass of the model takes pieces of prompts and single tokens of many sequences.
/// On backends whose rows do not depend on other rows (the CPU), a request gets the same bits alone and among others,
/// whatever the engine's sizes are and in whatever order requests come.

#include <deque>
#include <list>
#include <memory>

#include "infer/page_pool.h"
#include "infer/paged_model.h"
#include "infer/prompt_lookup.h"
#include "infer/request.h"
#include "tokenizer/tokenizer.h"

namespace moe {

struct EngineSizes {
  int64_t sequences = 1;          ///< the most requests that run at once; others wait
  int64_t tokens_per_pass = 512;  ///< at least `sequences`
  int64_t pages = 1;              ///< of the cache, of kPageTokens tokens
  int64_t longest = 1;            ///< the most tokens of one request in the cache (cached_tokens)
  bool scores = false;            ///< there may be requests with score_from
  bool experts = false;           ///< there may be requests with experts or prompt_experts
  /// The device chooses tokens, and passes without pieces of prompts are steps that it records: Device::records().
  bool on_device = false;
  bool penalties = false;  ///< there may be requests with penalties
  int64_t drafts = 0;      ///< the most tokens of GenerationOptions::prompt_lookup
};

struct RunningRequest;
struct EngineWork;

/// Sizes for these requests: at most `most_sequences` of them at once, and prompts in pieces of at most
/// `tokens_per_pass` tokens.
EngineSizes engine_sizes(const ModelConfig& config, const std::vector<Request>& requests, int64_t most_sequences,
                         int64_t tokens_per_pass = 512, bool on_device = false);

/// Sums since the engine was made.
struct EngineCounts {
  int64_t passes = 0;
  int64_t prompt_tokens = 0;          ///< tokens that passes computed in pieces of prompts
  int64_t single_tokens = 0;          ///< new tokens that passes computed
  int64_t steps = 0;                  ///< passes that were steps of the device
  int64_t drafted = 0, accepted = 0;  ///< tokens of drafts that passes computed, and those that were right
  int64_t reused_tokens = 0;          ///< tokens of prompts that were found in the cache
  int64_t pages_in_use = 0;           ///< now: pages that running requests list
  int64_t pages_kept = 0;             ///< now: pages that nobody lists, kept in case a prompt begins like their text
  int64_t waiting = 0, running = 0;   ///< now
};

/// The tokens of a request that are in the cache when it ends, if nothing ends it early. The last token is not.
int64_t cached_tokens(const Request& request, const ModelConfig& config);

/// A request waits until it has a place and all the pages that it can need. Requests start in the order of their
/// coming, but one whose prompt begins like that of a request which is still being read waits for those pages and lets
/// others pass. Use it on one thread at a time.
class Engine {
 public:
  /// `tokenizer`, if it is not null, must outlive the engine. Without one, requests have ids but no text, any id may be
  /// chosen, and only the model's configuration names an EOS. Errors: the model cannot generate; the tokenizer has more
  /// ids than the model.
  Engine(const ModelOnDevice& runtime, const Tokenizer* tokenizer, const EngineSizes& sizes);
  ~Engine();

  /// Bytes that an engine of these sizes allocates on its device, for a model or a rank's part. Nothing is allocated.
  static int64_t bytes(const HeldModel& held, const PassTypes& types, const EngineSizes& sizes);

  /// Takes a request in and returns its number. Nothing is computed yet. Errors, all before anything changes: a prompt
  /// that is empty, has an id outside the vocabulary, or leaves no room below max_position_embeddings; an option out of
  /// range; a request that could never fit this engine.
  int64_t admit(const Request& request);
  /// One pass; without anything to do, nothing. Returns what happened, in the order of the requests. If the pass fails,
  /// the error is thrown, and every request is as it was before the call; the next call tries again. With on_device, a
  /// step of the device may be queued already when the host reads the one before it.
  std::vector<Event> step();
  /// Ends a request without an event. False if there is no such request any more.
  bool cancel(int64_t request);
  /// True if no request is left.
  bool idle() const { return waiting_.empty() && running_.empty(); }
  /// Forgets what the cache holds of ended requests, except the beginning of a text. No request may be left. Waits for
  /// steps that are queued, so that afterwards nothing reads the model.
  void forget_prefixes(std::span<const int32_t> but = {});
  /// From now on uses another model of the same sizes and weights, such as the same one with other routing switches.
  /// forget_prefixes() forgets what does not hold any longer. No request may be left. An error of memory changes
  /// nothing.
  void set_model(const ModelOnDevice& runtime);

  const EngineSizes& sizes() const { return sizes_; }
  EngineCounts counts() const;
  /// What drafts have gained so far.
  const DraftGain& gain() const { return gain_; }

 private:
  using Running = RunningRequest;
  struct Waiting {
    int64_t id;
    Request request;
  };
  using Work = EngineWork;
  enum class Start { started, waits_for_pages, no_room };

  using Works = std::vector<Work>;

  void check(const Request& request) const;
  void start_waiting();
  Start start(const Waiting& waiting);
  void drop_unread_steps();
  std::vector<int32_t> copy_of(const PageBeginning& part);
  bool should_wait_for_pages(const Request& request, int64_t found) const;
  Works plan_pass();
  std::vector<int32_t> draft(const Running& running, int64_t room) const;
  PagedPass make_pass(const Works& works);
  void give_pages(Running& running, int64_t tokens);
  bool chooses_on_device(const Works& works) const;
  void set_draws(PagedPass& pass, const Works& works);
  TokenDraw draw_of(Running& running);
  std::vector<Event> pass();
  std::vector<Event> plain_pass(const Works& works);
  bool takes_steps(const Works& works) const;
  void begin_steps(const Works& works);
  bool next_step_is_known() const;
  void queue_step();
  std::vector<Event> read_step();
  void advance(Running& running, int64_t tokens);
  void choose(Running& running, std::span<const float> logits, Event& event);
  void take(Running& running, int32_t id, Event& event);
  void give_back(Running& running);
  std::vector<Event> ended(std::vector<Event> events);
  std::vector<int32_t> experts_of(const std::vector<int32_t>& of_pass, size_t tokens, size_t first, size_t count) const;
  const ModelConfig& config() const { return runtime_->model.config(); }

  std::optional<ModelOnDevice> runtime_;  // never empty; its model changes
  const Tokenizer* tokenizer_;
  EngineSizes sizes_;
  PagedModel model_;
  PagePool pool_;
  Sampler sampler_;
  std::deque<Waiting> waiting_;
  std::list<Running> running_;      // in the order of their coming
  std::vector<int64_t> free_rows_;  // of the page table
  int64_t reserved_ = 0;            // pages that running requests may still take
  int64_t next_id_ = 0;
  EngineCounts counts_;
  std::vector<Running*> step_rows_;  // of the model's steps; null: the request has left since
  bool newcomers_ = false;           // requests came since start_waiting()
  DraftGain gain_;
};

}  // namespace moe
