#include "cli/model_folder.h"

#include "base/error.h"

namespace moe {

CLI::Option* add_model_option(CLI::App& command, std::string& folder, const std::string& help) {
  const auto take = [&folder](const std::string& path) { folder = model_folder(path); };
  return command
      .add_option_function<std::string>("MODEL_DIR", take,
                                        help + "; or a GGUF file, or the folder of a run (for its newest checkpoint)")
      ->type_name("");
}

Tokenizer load_model_tokenizer(const std::string& model, int64_t rows) {
  Tokenizer tokenizer = Tokenizer::load(model);
  if (tokenizer.id_count() > rows) {
    fail("the tokenizer in {} has {} ids, but the model's vocab_size is {}; they do not belong together", model,
         tokenizer.id_count(), rows);
  }
  return tokenizer;
}

CLI::Option* add_tokenizer_option(CLI::App& command, std::string& path, const std::string& help) {
  const auto take = [&path](const std::string& given) {
    const fs::path folder(given);
    path = has_tokenizer(folder) ? given : model_folder(given);
  };
  return command.add_option_function<std::string>("--tokenizer", take, help)->type_name("DIR_OR_FILE");
}

}  // namespace moe
