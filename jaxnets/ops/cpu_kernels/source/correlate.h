// A convolution's forward pass and input gradient. Included by kernels.cc only.

// Looked up at a time, on the stack: (tile, tap) pairs, 16 to 33 KB, and tiles.
constexpr int kTilesAtOnce = 32;
constexpr Index kSegments = kTapsAcrossAtMost;

// A tap that a tile reads, and where each of its pixels reads it; or, if all pixels read it at the
// same distance from their first tap, that distance.
template <typename T, int kPixels>
struct Segment {
  Index tap;
  const T* from[kPixels];
};

struct Shift {
  Index tap, distance;
};

template <typename Tap>
constexpr bool kIsShift = false;
template <>
constexpr bool kIsShift<Shift> = true;

// The pixels of a tile. The last tile of a pass may have fewer: its other places repeat the last
// pixel, and are not stored.
template <typename T, int kPixels>
struct Place {
  Index count;
  Index row[kPixels], column[kPixels];
  const T* image[kPixels];
  Index pixel[kPixels];     // in the output
  bool is_one;              // the same row and column of several images
  bool is_inside;           // no tap of any pixel lies in the padding
  const T* start[kPixels];  // where shifts, if the pixels share them, begin
};

template <typename T, int kPixels>
inline void find(const Correlation<T>& pass, Index tile, Place<T, kPixels>& place) {
  const Reach<T>& reach = pass.reach;
  const Index pixels = reach.images * reach.rows * reach.columns;
  place.count = smaller(kPixels, pixels - tile * kPixels);
  Index rest = tile * kPixels, image, row, column;
  if (pass.images_innermost) {
    image = rest % reach.images, rest /= reach.images;
    column = rest % reach.columns, row = rest / reach.columns;
  } else {
    column = rest % reach.columns, rest /= reach.columns;
    row = rest % reach.rows, image = rest / reach.rows;
  }
  place.is_one = pass.images_innermost && image + place.count <= reach.images;
  place.is_inside = true;
  for (int m = 0; m < kPixels; m++) {
    const Index at_row = pass.row_order[row], at_column = pass.column_order[column];
    place.row[m] = at_row, place.column[m] = at_column;
    place.image[m] = reach.source + image * reach.image_stride;
    place.pixel[m] = (image * reach.rows + at_row) * reach.columns + at_column;
    place.is_inside &= reach.row_is_inside[at_row] & reach.column_is_inside[at_column];
    if (m + 1 >= place.count) continue;
    if (pass.images_innermost) {
      if (++image == reach.images) {
        image = 0;
        if (++column == reach.columns) column = 0, row++;
      }
    } else if (++column == reach.columns) {
      column = 0;
      if (++row == reach.rows) row = 0, image++;
    }
  }
  for (int m = 0; m < kPixels; m++) {
    place.start[m] = place.image[m];
    if (place.is_inside)
      place.start[m] += reach.row_offset[place.row[m]] + reach.column_offset[place.column[m]];
  }
}

// Looks up the taps, of some rows of the filter, that any pixel of the tile reads; their number.
template <typename T, int kPixels>
inline Index look_up(const Correlation<T>& pass, const Place<T, kPixels>& place, Index first_down,
                     Index last_down, Segment<T, kPixels>* segments) {
  const Reach<T>& reach = pass.reach;
  Index count = 0;
  for (Index down = first_down; down < last_down; down++) {
    const Index* row_offset = reach.row_offset + down * reach.rows;
    Index by_row[kPixels], any = kOutside;
    for (int m = 0; m < kPixels; m++) any &= by_row[m] = row_offset[place.row[m]];
    if (any < 0) continue;  // the sign of all of them
    for (Index across = 0; across < reach.taps_across; across++) {
      const Index* column_offset = reach.column_offset + across * reach.columns;
      Segment<T, kPixels>& segment = segments[count];
      segment.tap = down * reach.taps_across + across;
      Index sign = kOutside;
      for (int m = 0; m < kPixels; m++) {
        const Index by_column = column_offset[place.column[m]], outside = by_row[m] | by_column;
        segment.from[m] = outside < 0 ? pass.zeros : place.image[m] + by_row[m] + by_column;
        sign &= outside;
      }
      count += sign >= 0;
    }
  }
  return count;
}

// Likewise where all pixels have one place.
template <typename T, int kPixels>
inline Index look_up(const Correlation<T>& pass, const Place<T, kPixels>& place, Index first_down,
                     Index last_down, Shift* shifts) {
  const Reach<T>& reach = pass.reach;
  Index count = 0;
  for (Index down = first_down; down < last_down; down++) {
    const Index by_row = reach.row_offset[down * reach.rows + place.row[0]];
    for (Index across = 0; across < reach.taps_across; across++) {
      const Index by_column = reach.column_offset[across * reach.columns + place.column[0]];
      shifts[count] = {down * reach.taps_across + across, by_row + by_column};
      count += (by_row | by_column) >= 0;
    }
  }
  return count;
}

template <typename T>
constexpr Index kLine = 64 / sizeof(T);  // values in a line of the cache

// Asks for the cache lines of `count` values, to be read or written.
template <int kWrites, typename T>
inline void fetch(const T* values, int count) {
  for (int i = 0; i < count; i += kLine<T>) __builtin_prefetch(values + i, kWrites);
}

// Adds the bias and the residual to the sums of a pixel, applies ReLU and stores the result.
template <typename T, int kVectors>
inline void finish(const Epilogue<T>& epilogue, const Vector (&bias)[kVectors],
                   Vector (&row)[kVectors], Index at, T* out, Index channels) {
  for (int v = 0; v < kVectors; v++) row[v] += bias[v];
  if (epilogue.residual != nullptr) {
    Vector residual[kVectors];
    load_row(epilogue.residual + at, residual, channels);
    for (int v = 0; v < kVectors; v++) row[v] += residual[v];
  }
  if (epilogue.relu)
    for (int v = 0; v < kVectors; v++) row[v] = relu(row[v]);
  store_row(out + at, row, channels);
}

template <typename T>
inline bool is_used(const Epilogue<T>& epilogue) {
  return epilogue.bias != nullptr || epilogue.residual != nullptr || epilogue.relu;
}

template <typename T, int kVectors>
inline void load_bias(const Epilogue<T>& epilogue, Vector (&bias)[kVectors], Index channel,
                      Index channels) {
  for (int v = 0; v < kVectors; v++) bias[v] = Vector{};
  if (epilogue.bias != nullptr) load_row(epilogue.bias + channel, bias, channels);
}

// The products of one tile and one panel. Sums stay in registers over all taps; where the pixels
// share their shifts, so do the pointers. Then the last tap is where values are read for the first
// time, and while it is computed, those that are `ahead` are fetched; 0 fetches nothing.
template <int kVectors, typename T, int kPixels, typename Tap>
inline void multiply(const Correlation<T>& pass, const Place<T, kPixels>& place, const Tap* taps,
                     Index count, Index block, bool begins, bool ends, Index ahead) {
  constexpr int kWidth = kVectors * kLanes;
  constexpr bool kShares = kIsShift<Tap>;
  const Reach<T>& reach = pass.reach;
  const Index run = reach.run, first_channel = block * kWidth;
  const Index channels = pass.channels - first_channel;
  const T* panels =
      pass.panels + block * reach.taps_down * reach.taps_across * pass.panel_rows * kWidth;
  const auto at = [&](int m) { return place.pixel[m] * pass.out_stride + first_channel; };
  Vector sum[kPixels][kVectors];
#pragma GCC unroll 12
  for (int m = 0; m < kPixels; m++)  // unrolled: sums are registers, which have no index
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) sum[m][v] = Vector{};
  if (!begins)
#pragma GCC unroll 12
    for (int m = 0; m < kPixels; m++)
      if (m < place.count) load_row(pass.out + at(m), sum[m], channels);
  // What the end of the tile reads and writes is fetched while it is computed.
  if (ends)
    for (int m = 0; m < kPixels; m++) {
      fetch<1>(pass.out + at(m), kWidth);
      if (pass.epilogue.residual != nullptr) fetch<0>(pass.epilogue.residual + at(m), kWidth);
    }
  const T* from[kPixels];
  if constexpr (kShares)
    for (int m = 0; m < kPixels; m++) from[m] = place.start[m];
  for (Index t = 0; t < count; t++) {
    const T* panel = panels + taps[t].tap * pass.panel_rows * kWidth;
    Index c = 0;
    if constexpr (kShares)
      c = taps[t].distance;
    else
      for (int m = 0; m < kPixels; m++) from[m] = taps[t].from[m];
    const auto multiply_until = [&](Index end) __attribute__((always_inline)) {
      for (; c < end; c += kStep<T>) {
        Vector weights[kVectors];
        for (int v = 0; v < kVectors; v++) weights[v] = load_weights(panel + v * kLanes * kStep<T>);
#pragma GCC unroll 12
        for (int m = 0; m < kPixels; m++)
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; v++) multiply_add(sum[m][v], from[m] + c, weights[v]);
        panel += kWidth * kStep<T>;
      }
    };
    const Index end = c + run;
    if (kShares && ahead != 0 && t + 1 == count)
      while (c + kLine<T> <= end) {
#pragma GCC unroll 12
        for (int m = 0; m < kPixels; m++) __builtin_prefetch(from[m] + c + ahead);
        multiply_until(c + kLine<T>);
      }
    multiply_until(end);
  }
  Vector bias[kVectors];
  load_bias(pass.epilogue, bias, first_channel, channels);
  if (ends && is_used(pass.epilogue)) {
#pragma GCC unroll 12
    for (int m = 0; m < kPixels; m++)
      if (m < place.count) finish(pass.epilogue, bias, sum[m], at(m), pass.out, channels);
  } else {
#pragma GCC unroll 12
    for (int m = 0; m < kPixels; m++)
      if (m < place.count) store_row(pass.out + at(m), sum[m], channels);
  }
}

// The run that a pixel reads, normalised, to `to`.
template <typename T>
inline void normalize_run(const Prologue& prologue, const T* from, Index run, T* to) {
  Vector value[1], center[1], factor[1], offset[1];
  for (Index c = 0; c < run; c += kLanes) {
    const Index channels = run - c;
    load_row(from + c, value, channels);
    load_row(prologue.center + c, center, channels);
    load_row(prologue.factor + c, factor, channels);
    load_row(prologue.offset + c, offset, channels);
    value[0] = relu((value[0] - center[0]) * factor[0] + offset[0]);
    store_row(to + c, value, channels);
  }
}

// Tiles whose taps are looked up together, for some rows of the filter.
template <typename T, int kPixels>
struct Batch {
  Place<T, kPixels> places[kTilesAtOnce];
  Index counts[kTilesAtOnce];
  Segment<T, kPixels> segments[kSegments];  // [tiles][taps]; likewise
  Shift shifts[kSegments];
  Shift inside[kSegments];  // [taps]
  Index taps;

  void look_up_all(const Correlation<T>& pass, Index tiles, Index first_down, Index last_down) {
    const Index across = pass.reach.taps_across;
    taps = (last_down - first_down) * across;
    for (Index t = 0; t < taps; t++) {
      const Index tap = first_down * across + t;
      inside[t] = {tap, pass.reach.distance[tap]};
    }
    for (Index t = 0; t < tiles; t++) {
      const Place<T, kPixels>& place = places[t];
      if (place.is_inside)
        counts[t] = taps;
      else if (place.is_one)
        counts[t] = look_up(pass, place, first_down, last_down, shifts + t * taps);
      else
        counts[t] = look_up(pass, place, first_down, last_down, segments + t * taps);
    }
  }

  // Normalises what the tiles read.
  void normalize_all(const Correlation<T>& pass, Index tiles, T* to) {
    for (Index t = 0; t < tiles; t++)
      for (int m = 0; m < kPixels; m++, to += pass.reach.run) {
        normalize_run(pass.prologue, places[t].start[m], pass.reach.run, to);
        places[t].start[m] = to;
      }
  }

  template <int kVectors>
  void multiply_tile(const Correlation<T>& pass, Index t, Index block, bool begins, bool ends,
                     bool fetches) {
    const Place<T, kPixels>& place = places[t];
    const Index ahead = fetches ? kPixels * (place.start[1] - place.start[0]) : 0;
    if (place.is_inside || place.is_one) {
      const Shift* shared = place.is_inside ? inside : shifts + t * taps;
      multiply<kVectors>(pass, place, shared, counts[t], block, begins, ends, ahead);
    } else {
      multiply<kVectors>(pass, place, segments + t * taps, counts[t], block, begins, ends, ahead);
    }
  }
};

template <int kPixels, int kVectors, typename T>
void correlate_tiles(const Correlation<T>& pass, Index first_tile, Index last_tile,
                     Index first_block, Index last_block, T* scratch) {
  const Index down = pass.reach.taps_down, across = pass.reach.taps_across;
  const Index down_at_once = smaller(down, kSegments / across);
  Index tiles_at_once = smaller(kSegments / (down_at_once * across), kTilesAtOnce);
  const bool normalizes = pass.prologue.center != nullptr;
  if (normalizes) {
    const Index fitting = kValuesNormalized / (kPixels * pass.reach.run);
    tiles_at_once = fitting < 1 ? 1 : smaller(fitting, tiles_at_once);
  }
  Batch<T, kPixels> batch;
  for (Index tile = first_tile; tile < last_tile; tile += tiles_at_once) {
    const Index tiles = smaller(tiles_at_once, last_tile - tile);
    for (Index t = 0; t < tiles; t++) find(pass, tile + t, batch.places[t]);
    if (normalizes) batch.normalize_all(pass, tiles, scratch);
    for (Index first = 0; first < down; first += down_at_once) {
      const Index last = smaller(first + down_at_once, down);
      batch.look_up_all(pass, tiles, first, last);
      // All tiles read a panel before the next one is begun: it stays in the nearest cache.
      for (Index block = first_block; block < last_block; block++)
        for (Index t = 0; t < tiles; t++)
          batch.template multiply_tile<kVectors>(pass, t, block, first == 0, last == down,
                                                   block == first_block && !normalizes);
    }
  }
}

template <typename T>
void correlate(const Correlation<T>& pass, Index first_tile, Index last_tile, Index first_block,
               Index last_block, T* scratch) {
  switch (pass.width / kLanes) {
    case 1:
      return correlate_tiles<tallest(1), 1>(pass, first_tile, last_tile, first_block, last_block,
                                            scratch);
    case 2:
      return correlate_tiles<tallest(2), 2>(pass, first_tile, last_tile, first_block, last_block,
                                            scratch);
#if JAXNETS_REGISTERS >= 32
    case 3:
      return correlate_tiles<tallest(3), 3>(pass, first_tile, last_tile, first_block, last_block,
                                            scratch);
    case 4:
      return correlate_tiles<tallest(4), 4>(pass, first_tile, last_tile, first_block, last_block,
                                            scratch);
#endif
  }
}
