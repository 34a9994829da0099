// A dataset: dataset.json, then the byte 0xFF, then its shard tokens-00000.bin. Every table and every token is read.

#include "data/batch_source.h"
#include "data/shards.h"
#include "tests/fuzz/support.h"

using namespace moe;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parts = fuzz::cut(fuzz::text_of(data, size), 2);
  fuzz::put("dataset.json", parts[0]);
  fuzz::put("tokens-00000.bin", parts[1]);
  fuzz::accepted([&] {
    const Dataset dataset(fuzz::folder().string());
    const DatasetInfo& info = dataset.info();
    int64_t tokens = 0;
    for (int64_t document = 0; document < dataset.count(); ++document) {
      const int64_t length = dataset.length(document);
      tokens += length;
      MOE_CHECK(length >= 0 && tokens <= static_cast<int64_t>(size) && dataset.text_bytes(document) >= 0);
      MOE_CHECK(static_cast<size_t>(dataset.domain(document)) < dataset.domain_names().size());
      std::vector<int32_t> ids(static_cast<size_t>(length));
      std::vector<uint8_t> marks(static_cast<size_t>(length));
      fuzz::accepted([&] {
        dataset.copy_tokens(document, 0, length, ids.data());
        for (const int32_t id : ids) MOE_CHECK(id >= 0 && id < info.vocab_size);
      });
      dataset.copy_marks(document, 0, length, marks.data());
    }
    fuzz::accepted([&] { dataset.check_content(); });
    fuzz::accepted([&] {
      const BatchSource source(dataset, {.sequence_length = 8, .rows_per_step = 2, .seed = 1});
      for (int64_t step = 0; step < 3; ++step) MOE_CHECK(source.rows(step, 0, 2).rows == 2);
    });
  });
  return 0;
}
