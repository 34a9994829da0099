// trainer_state.json of a checkpoint: what is accepted is written again and means the same.

#include "checkpoint/trainer_state.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::put("trainer_state.json", fuzz::text_of(data, size));
  fuzz::accepted([&] {
    const TrainerState state = load_trainer_state(fuzz::folder());
    save_trainer_state(fuzz::folder(), state);
    MOE_CHECK(load_trainer_state(fuzz::folder()) == state);
  });
  return 0;
}
