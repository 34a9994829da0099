#pragma once
/// Inference of a model whose routed experts, layers, or both are divided among ranks. All ranks must make the same
/// passes, and only rank 0 knows which: it has the requests, the terminal and the clock. So rank 0 has the Engine, and
/// the others have a PagedModel of the same sizes and do to it what rank 0 does to its own.
///
/// The protocol. Rank 0 collects the calls of its PagedModel. Before each one that begins a pass or a step, it sends
/// the collected calls and this one as one message, in a Communicator::gather() to which the others bring nothing. The
/// others read the message and make the calls. Then all ranks compute, and add up the outputs of their experts in each
/// MoE layer; or one after the other computes its layers and sends the result on, and the last one sends the logits to
/// all. A change of the routing and the end of the work are messages too. Everything else follows from the calls:
/// all ranks have the same numbers in front of each router and the same logits, so that they choose the same experts,
/// and tokens that the device chooses are the same. This needs processors of one kind. Between messages the others
/// wait, as long as rank 0 does.
///
/// On GPUs the sums are collectives of NCCL on the stream that computes (backend/cuda/nccl_communicator.h). They are
/// not recorded, so neither are steps: DecodeGraph queues each step anew.
///
/// If a pass of one rank fails, the ranks are not at the same place any more, so this is the end for all of them.

#include <exception>
#include <string>

#include "infer/paged_pass.h"
#include "infer/switches.h"
#include "ops/communicator.h"

namespace moe {

/// Of rank 0. Use it on the thread that uses the PagedModel.
class Leader {
 public:
  /// `communicator` must outlive it.
  explicit Leader(Communicator& communicator) : communicator_(communicator) {}

  // The calls of a PagedModel.
  void begin(const PagedSizes& sizes);
  void set_pages(int64_t sequence, const std::vector<int32_t>& pages);
  void copy_page(int32_t from, int32_t to, int64_t tokens);
  void set_allowed(const std::vector<int32_t>& allowed);
  void set_history(int64_t sequence, const std::vector<int32_t>& ids);
  void run(const PagedPass& pass);
  void begin_steps(const std::vector<StepRow>& rows);
  void queue_step();
  void read_step();

  /// Sends that the others give their models these switches.
  void set_switches(const RoutingSwitches& switches);
  /// Sends that the work is done. Nothing may follow.
  void end();

  /// False if something failed that all ranks do together. Nothing can be computed any more.
  bool usable() const { return usable_; }
  /// Exists while all ranks do something together. An exception that ends it makes the leader unusable.
  class Together {
   public:
    explicit Together(Leader* leader) : leader_(leader), exceptions_(std::uncaught_exceptions()) {}
    ~Together() {
      if (leader_ != nullptr && std::uncaught_exceptions() > exceptions_) leader_->usable_ = false;
    }
    Together(const Together&) = delete;
    Together& operator=(const Together&) = delete;

   private:
    Leader* leader_;
    int exceptions_;
  };

 private:
  void send();

  Communicator& communicator_;
  std::string calls_;  // not sent yet
  bool usable_ = true;
};

}  // namespace moe
