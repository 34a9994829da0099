#pragma once
/// The engine of one conversation: one request after the other, over a model whose routing may change between them.

#include <optional>
#include <span>
#include <vector>

#include "infer/engine.h"
#include "infer/loaded_model.h"

namespace moe {

/// Decides how much memory a ChatEngine allocates.
struct ChatSizes {
  int64_t most_tokens = 1;        ///< of a prompt and its answer
  int64_t tokens_per_pass = 512;  ///< limits the memory of activations, and the time until a stop is noticed
};

/// Its cache holds one text: the last prompt and what was generated after it. A request computes what follows the
/// longest common beginning. On the CPU it gives the bits of a request to a new engine. Use it on one thread at a time.
class ChatEngine {
 public:
  /// `loaded` must outlive it, and only the ChatEngine may change its switches. `switches` are those that it has now.
  /// `tokenizer` as in Engine. `cache`: the type of the cache; absent: that of the activations. `leader` as in
  /// ModelOnDevice.
  ChatEngine(LoadedModel& loaded, const Tokenizer* tokenizer, Device& device, Backend& backend, const ChatSizes& sizes,
             RoutingSwitches switches = {}, std::optional<DType> cache = {}, Leader* leader = nullptr);

  /// Bytes that it allocates on its device. Nothing is allocated. `on_device`: Device::records().
  static int64_t bytes(const HeldModel& held, const PassTypes& types, const ChatSizes& sizes, bool on_device);

  /// Takes a request in, which gives experts whatever it says. None may be there. Errors as of Engine::admit().
  void begin(Request request);
  /// One pass. Without a request nothing happens. Errors as of Engine::step(); the request is still there then.
  std::vector<Event> step();
  /// Ends the request, if it is still there. What was computed stays in the cache.
  void end();

  /// Of the last request's prompt: tokens that were in the cache, and those that were computed so far.
  int64_t reused() const { return reused_; }
  int64_t read() const;
  EngineCounts counts() const { return engine_.counts(); }
  /// What guesses have saved so far (DraftGain).
  double saved_seconds() const { return engine_.gain().saved_seconds(); }

  int64_t most_tokens() const { return sizes_.most_tokens; }
  const ModelConfig& config() const { return loaded_.config(); }
  /// The tokens in the cache.
  const std::vector<int32_t>& ids() const { return ids_; }
  /// The experts that the cached tokens from `begin` up to, not including, `end` chose: [tokens, MoE layers, S]; -1:
  /// none.
  std::span<const int32_t> chosen(int64_t begin, int64_t end) const;

  /// False if several ranks compute, and something failed that they do together: nothing can be computed any more.
  bool usable() const;

  const RoutingSwitches& switches() const { return switches_; }
  /// Changes the routing, and keeps of the cache what it holds under the new one (infer/routing_change.h). No request
  /// may be there. An error changes nothing.
  void set_switches(const RoutingSwitches& switches);

 private:
  int64_t ids_per_token() const;
  void forget_from(int64_t tokens);
  ModelOnDevice runtime() const { return {loaded_.model(), loaded_.dtype(), device_, backend_, cache_, leader_}; }

  LoadedModel& loaded_;
  Device& device_;
  Backend& backend_;
  ChatSizes sizes_;
  RoutingSwitches switches_;
  std::optional<DType> cache_;
  Leader* leader_;
  Engine engine_;
  std::optional<int64_t> number_;  // of the request
  std::vector<int32_t> prompt_;    // of the last request
  std::optional<int32_t> newest_;  // its last new token, which is not in the cache
  EngineCounts before_;            // when it came
  int64_t reused_ = 0;
  std::vector<int32_t> ids_;
  std::vector<int32_t> chosen_;  // [tokens, MoE layers, S]
};

}  // namespace moe
