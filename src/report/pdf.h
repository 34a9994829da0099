#pragma once

#include <string>

namespace moe {

/// A plot of report/svg.h as a PDF of one page with the same size and lines. Text is in Helvetica, which a reader of
/// PDF has; a character outside of Latin-1 becomes "?". It reads the elements that report/svg.h writes and no others.
std::string pdf_of_svg(const std::string& svg);

}  // namespace moe
