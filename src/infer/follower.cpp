#include "infer/follower.h"

#include <memory>

#include "infer/paged_model.h"
#include "infer/rank_calls.h"

namespace moe {
namespace {

/// A rank that is not 0, and its model.
class Follower {
 public:
  Follower(LoadedModel& loaded, Device& device, Backend& backend, std::optional<DType> cache)
      : loaded_(loaded), device_(device), backend_(backend), cache_(cache) {}

  /// Makes the calls of a message. False: the last of them was end().
  bool make_calls(WordReader words) {
    while (!words.done()) {
      const auto call = words.take<Call>();
      if (call == Call::end) return false;
      if (call == Call::begin) {
        model_.reset();
        model_ = std::make_unique<PagedModel>(runtime(), take_sizes(words));
      } else if (call == Call::set_switches) {
        loaded_.set_switches(take_switches(words));
        model_->set_model(runtime());
      } else {
        make(call, words);
      }
    }
    return true;
  }

 private:
  ModelOnDevice runtime() const { return {loaded_.model(), loaded_.dtype(), device_, backend_, cache_}; }

  void make(Call call, WordReader& words) {
    switch (call) {
      case Call::set_pages: {
        const auto sequence = words.take<int64_t>();
        return model_->set_pages(sequence, words.take_all<int32_t>());
      }
      case Call::copy_page: {
        const auto from = words.take<int32_t>(), to = words.take<int32_t>();
        return model_->copy_page(from, to, words.take<int64_t>());
      }
      case Call::set_allowed:
        return model_->set_allowed(words.take_all<int32_t>());
      case Call::set_history: {
        const auto sequence = words.take<int64_t>();
        return model_->set_history(sequence, words.take_all<int32_t>());
      }
      case Call::run:
        model_->run(take_pass(words));
        return;
      case Call::begin_steps:
        return model_->begin_steps(take_rows(words));
      case Call::queue_step:
        return model_->queue_step();
      case Call::read_step:
        model_->read_step();
        return;
      case Call::begin:
      case Call::set_switches:
      case Call::end:
        break;
    }
    fail("a message of rank 0 has an unknown call; all ranks need the same program");
  }

  LoadedModel& loaded_;
  Device& device_;
  Backend& backend_;
  std::optional<DType> cache_;
  std::unique_ptr<PagedModel> model_;
};

}  // namespace

void follow(Communicator& communicator, LoadedModel& loaded, Device& device, Backend& backend,
            std::optional<DType> cache) {
  Follower follower(loaded, device, backend, cache);
  while (follower.make_calls(WordReader(communicator.gather("")[0]))) {}
}

}  // namespace moe
