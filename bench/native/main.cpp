// The native baselines of bench/, driven line by line so that rounds can be interleaved with other contenders.
//
//   attention ID HEADS DIM CAUSAL N FOLD W:R,W:R,… OFFSETS Q K V    offsets branch by branch, comma-separated; raw f32 files
//   linear ID ROWS DEPTH COLS X W BIAS                              W is [COLS, DEPTH], packed here
//   run ID THREADS                                                  → {"ns": …}
//   write ID OUT [LSE]                                              raw f32 files
//   drop ID
//   clock wall|cpu                                                  what `run` and `peak` measure; cpu: the process's processor time
//   peak NAME THREADS                                               fma128 fma256 fma512 mulAdd128 mulAdd256 exp copy
//
// Every line is answered by one line of JSON; {"error": …} where it cannot be done.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

#include "attention.hpp"
#include "linear.hpp"
#include "peaks.hpp"

namespace {

std::vector<float> readFloats(const std::string& path, std::size_t count) {
  std::vector<float> values(count);
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read an input file");
  file.read(reinterpret_cast<char*>(values.data()), std::streamsize(count * sizeof(float)));
  if (std::size_t(file.gcount()) != count * sizeof(float)) throw std::runtime_error("an input file is too short");
  return values;
}

void writeFloats(const std::string& path, const std::vector<float>& values) {
  std::ofstream file(path, std::ios::binary);
  file.write(reinterpret_cast<const char*>(values.data()), std::streamsize(values.size() * sizeof(float)));
  if (!file) throw std::runtime_error("cannot write an output file");
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::stringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
  return parts;
}

std::map<std::string, attention::Problem> attentions;
std::map<std::string, linear::Problem> linears;
std::vector<attention::Scratch> attentionScratch;
std::vector<Aligned> linearScratch;

std::string answer(std::istream& in) {
  std::string word, id;
  in >> word;
  char text[96];
  if (word == "attention") {
    attention::Problem P;
    std::string branches, offsets, q, k, v;
    in >> id >> P.heads >> P.dim >> P.causal >> P.length >> P.fold >> branches >> offsets >> q >> k >> v;
    const std::vector<std::string> offset = split(offsets, ',');
    for (const std::string& b : split(branches, ',')) {
      const std::vector<std::string> wr = split(b, ':');
      attention::Branch B{std::stoll(wr.at(0)), std::stoll(wr.at(1)), {}};
      for (int h = 0; h < P.heads; h++) B.offset.push_back(std::stoi(offset.at(P.branches.size() * P.heads + h)));
      P.branches.push_back(std::move(B));
    }
    const std::size_t count = std::size_t(P.length) * P.heads * P.dim;
    P.q = readFloats(q, count);
    P.k = readFloats(k, count);
    P.v = readFloats(v, count);
    P.out.assign(count, NAN);
    P.lse.assign(std::size_t(P.length) * P.heads, NAN);
    linears.erase(id);
    attentions[id] = std::move(P);
    return "{\"ok\":true}";
  }
  if (word == "linear") {
    linear::Problem P;
    std::string x, w, bias;
    in >> id >> P.rows >> P.depth >> P.cols >> x >> w >> bias;
    P.x = readFloats(x, P.rows * P.depth);
    P.w = readFloats(w, P.cols * P.depth);
    P.bias = readFloats(bias, P.cols);
    P.out.assign(P.rows * P.cols, NAN);
    linear::pack(P);
    attentions.erase(id);
    linears[id] = std::move(P);
    return "{\"ok\":true}";
  }
  if (word == "run") {
    int threads = 1;
    in >> id >> threads;
    const double start = peaks::now();
    if (const auto a = attentions.find(id); a != attentions.end()) attention::run(a->second, threads, attentionScratch);
    else if (const auto l = linears.find(id); l != linears.end()) linear::run(l->second, threads, linearScratch);
    else throw std::runtime_error("nothing is called " + id);
    std::snprintf(text, sizeof text, "{\"ns\":%.0f}", peaks::now() - start);
    return text;
  }
  if (word == "write") {
    std::string out, lse;
    in >> id >> out >> lse;
    if (const auto a = attentions.find(id); a != attentions.end()) {
      writeFloats(out, a->second.out);
      if (!lse.empty()) writeFloats(lse, a->second.lse);
    } else {
      writeFloats(out, linears.at(id).out);
    }
    return "{\"ok\":true}";
  }
  if (word == "drop") {
    in >> id;
    attentions.erase(id);
    linears.erase(id);
    return "{\"ok\":true}";
  }
  if (word == "clock") {
    in >> id;
    peaks::processorTime = id == "cpu";
    return "{\"ok\":true}";
  }
  if (word == "peak") {
    int threads = 1;
    in >> id >> threads;
    if (!peaks::supported(id)) return "{\"value\":null}";
    std::snprintf(text, sizeof text, "{\"value\":%.4f}", peaks::measure(id, threads));
    return text;
  }
  throw std::runtime_error("unknown word");
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream in(line);
    std::string reply;
    try {
      reply = answer(in);
    } catch (const std::exception& problem) {
      reply = std::string("{\"error\":\"") + problem.what() + "\"}";
    }
    std::cout << reply << std::endl;
  }
}
