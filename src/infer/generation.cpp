#include "infer/generation.h"

#include "base/error.h"
#include "base/utf8.h"

namespace moe {

void validate(const GenerationOptions& options) {
  validate(options.sampling);
  if (options.max_new_tokens < 1) fail_usage("--max-new-tokens {}: expected 1 or more", options.max_new_tokens);
  for (const std::string& stop : options.stop) {
    if (stop.empty()) fail_usage("--stop: an empty string would stop at once; leave the option out");
    if (utf8_valid_prefix(stop) != stop.size()) {
      fail_usage("--stop {}: it is not UTF-8, and generated text always is, so it would never occur", valid_utf8(stop));
    }
  }
}

}  // namespace moe
