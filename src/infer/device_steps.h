#pragma once
/// Choosing tokens on the device, after passes and in steps that need no host (PagedModel).

#include <array>
#include <deque>
#include <map>
#include <memory>

#include "batch/token_buffers.h"
#include "infer/decode_graph.h"
#include "infer/paged_pass.h"

namespace moe {

/// What NextToken reads and writes. R rows of logits, S sequences.
struct ChoiceViews {
  int64_t sequences = 0;
  View allowed;              ///< i32 [V]: all may be chosen until set_allowed()
  View draws;                ///< i32 [R, kDrawWords]
  View counts = {};          ///< i32 [S, V]; absent: there are no penalties
  View chosen;               ///< i32 [R]
  View sequence, positions;  ///< i32 [R], of the rows of a pass
  View ids;                  ///< i32 [R], which a pass has no use for
  bool all_allowed = true;

  ChoiceViews() = default;
  ChoiceViews(Arena& arena, int64_t rows, int64_t sequences, const ModelConfig& config, bool penalties);

  void set_allowed(const std::vector<int32_t>& ids, Device& device);
  void set_history(int64_t sequence, const std::vector<int32_t>& ids, Device& device) const;
  void set_draws(const std::vector<TokenDraw>& each, Device& device) const;
  /// Queues the choice of the pass's wanted tokens from their logits.
  void choose(const View& logits, const PagedPass& pass, Device& device, Backend& backend) const;
  /// The choices of the first rows. Waits.
  std::vector<int32_t> chosen_ids(int64_t rows, Device& device) const;
  /// For steps with these tokens. Without draws, they always take the most likely token.
  DecodeViews of_step(const TokenViews& tokens, const View& logits, bool drawn) const;
};

/// What steps read and write. All must outlive them.
struct StepViews {
  TokenBuffers& tokens;
  const View& logits;
  const ChoiceViews& choices;
  const KvCache& cache;
  View experts;  ///< i32, with room for the experts of all rows; absent: not told
};

/// Recorded steps, one recording for each number of rows, which are rounded up: rows that are not used have no
/// sequence. For one thread at a time.
class DeviceSteps {
 public:
  /// All must outlive it.
  DeviceSteps(const ModelOnDevice& runtime, PassArenas& arenas, const StepViews& views);

  void begin(const std::vector<StepRow>& rows);
  void queue();
  StepChoices read();
  int64_t unread() const { return unread_; }

 private:
  static constexpr int64_t kMostUnread = 2;

  struct Copies {
    std::unique_ptr<LateCopy> ids, experts;  // experts: null if they are not told
  };
  View experts(int64_t rows) const;

  ModelOnDevice runtime_;
  PassArenas& arenas_;
  StepViews views_;
  std::map<std::pair<int64_t, bool>, DecodeGraph> graphs_;  // by rows, and whether there are draws
  DecodeGraph* graph_ = nullptr;
  std::array<Copies, kMostUnread> copies_;
  int64_t rows_ = 0, recorded_ = 0;  // that are used, and those of the recording
  int64_t unread_ = 0, next_ = 0;    // next_: the copy of the next step
};

/// The rows of the recording for so many: one of a few sizes.
int64_t recorded_rows(int64_t rows, int64_t most);

}  // namespace moe
