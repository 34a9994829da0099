#pragma once
/// A model with a cache of keys and values in pages (KvAppend), and the memory of its passes. It knows nothing of
/// requests: the engine decides which tokens a pass has and in which pages they go.

#include <memory>
#include <optional>
#include <vector>

#include "comm/planned_ranks.h"
#include "infer/model_on_device.h"
#include "infer/paged_pass.h"

namespace moe {

/// Tokens of a page of the cache. Attention takes keys in blocks of as many.
constexpr int64_t kPageTokens = 64;

/// The pages for this many tokens.
constexpr int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

class DeviceSteps;

struct PagedResult {
  std::vector<float> logits;     ///< [wanted, V]; empty with draws
  std::vector<int32_t> chosen;   ///< [wanted] with draws; -1: the logits allow no choice
  std::vector<double> losses;    ///< [scored]: minus the logarithm of the target's probability
  std::vector<int32_t> experts;  ///< [MoE layers, tokens, choices]; -1: none
};

/// Steps are passes of one token of each sequence, whose tokens are chosen on the device and are the next step's input.
/// The host reads them when it likes. With a leader, what is done here is done on all ranks (infer/leader.h). Use it on
/// one thread at a time.
class PagedModel {
 public:
  PagedModel(const ModelOnDevice& runtime, const PagedSizes& sizes);
  ~PagedModel();

  /// Bytes that these sizes allocate on a rank. Nothing is allocated.
  static int64_t bytes(const HeldModel& held, const PassTypes& types, const PagedSizes& sizes);
  /// Bytes of one page of a cache of this type, all layers of the rank together.
  static int64_t page_bytes(const HeldModel& held, DType cache);
  /// What the rank sends and receives in a pass of so many tokens, of which one needs logits and none tells its
  /// experts.
  static CollectiveTraffic traffic(const HeldModel& held, const PassTypes& types, int64_t tokens);

  const ModelConfig& config() const { return runtime_->model.config(); }
  const PagedSizes& sizes() const { return sizes_; }
  /// The first pages of a sequence, in the order of its tokens. Later entries of its row keep their values.
  void set_pages(int64_t sequence, const std::vector<int32_t>& pages);
  /// Copies the keys and values of a page's first tokens to another page, through the host's memory. Waits.
  void copy_page(int32_t from, int32_t to, int64_t tokens);
  /// Writes the tokens' keys and values into their pages. If it throws, nothing but these rows of the cache has
  /// changed.
  PagedResult run(const PagedPass& pass);

  /// Ids with allowed[id] = 0 are not chosen on the device.
  void set_allowed(const std::vector<int32_t>& allowed);
  /// The tokens of a sequence so far, for penalties on the device, which then counts those that it chooses.
  void set_history(int64_t sequence, const std::vector<int32_t>& ids);
  /// The rows of the steps from now on, at most `sequences`. No step may be unread.
  void begin_steps(const std::vector<StepRow>& rows);
  /// Queues a step, which the device records if it records; at most two may be unread. If it throws, no step was
  /// queued.
  void queue_step();
  /// What the oldest unread step chose. Waits for that step and for nothing behind it.
  StepChoices read_step();
  int64_t unread_steps() const;

  /// From now on uses another model of the same sizes and weights, such as the same one with other routing switches.
  /// The cache stays as it is. No step may be unread. An error of memory changes nothing.
  void set_model(const ModelOnDevice& runtime);

 private:
  struct Memory;
  struct Work;
  void start_work();

  std::optional<ModelOnDevice> runtime_;  // never empty; its model changes
  PagedSizes sizes_;
  std::unique_ptr<Memory> memory_;
  std::unique_ptr<Work> work_;
  View experts_;  // where passes and steps tell them
  std::unique_ptr<DeviceSteps> steps_;
};

}  // namespace moe
