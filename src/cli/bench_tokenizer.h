#pragma once
/// Encoding text, and training a vocabulary on it: `moe bench tokenizer`.

#include <string>
#include <vector>

#include "cli/device_option.h"

namespace moe {

struct TokenizerBenchFlags {
  std::string tokenizer;           ///< "": measures training alone
  std::vector<std::string> files;  ///< as `moe tokenizer train` reads them
  int64_t mib = 64;                ///< text to encode, from each file as much as its share
  int32_t vocab_size = 0;          ///< of a vocabulary to train on all of the text; 0: none
  int threads = 0;                 ///< 0: one per processor
  int repeats = 3;
  bool json = false;
};

/// Prints MB of text (10^6 bytes) encoded per second on one thread and on all, and the seconds of training.
void bench_tokenizer(const TokenizerBenchFlags& flags);

}  // namespace moe
