#pragma once
/// `moe bench tokenizer`: encodes text, and trains a vocabulary on it.

#include <string>
#include <vector>

#include "cli/device_option.h"
#include "cli/text_sources.h"

namespace moe {

struct TokenizerBenchFlags {
  std::string tokenizer;           ///< "": measures only training
  std::vector<std::string> files;  ///< files, read as by `moe tokenizer train`
  TextSourceOptions sources;       ///< how they are read; without files of its own
  int64_t mib = 64;                ///< text to encode; each file gives its share
  int32_t vocab_size = 0;          ///< size of a vocabulary to train on all of the text; 0: none
  int threads = 0;                 ///< 0: one per processor
  int repeats = 3;
  bool json = false;
};

/// Prints MB of text (10^6 bytes) encoded per second on one thread and on all, and the seconds of training.
void bench_tokenizer(const TokenizerBenchFlags& flags);

}  // namespace moe
