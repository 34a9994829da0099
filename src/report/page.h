#pragma once
/// Pages for a browser: one file each, which needs no network. The files of src/report/page/ are part of the program.

#include <string>
#include <string_view>

#include "formats/json.h"

namespace moe {

/// A page that shows `data`. Its script finds the data as an object. Text in `data` is shown as it is, never as HTML.
enum class Page {
  report,  ///< runs (report/runs.h)
  trace,   ///< the experts of the tokens of a text (eval/token_trace.h)
};

/// Throws an Error if the page draws curves and the program was built without Chart.js.
void check_page(Page page);

/// The page as HTML. `title` may be any text.
std::string html_page(Page page, std::string_view title, const Json& data);

}  // namespace moe
