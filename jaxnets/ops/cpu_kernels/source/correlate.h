// Tiles of a convolution's forward pass and input gradient. Included by tiles.cc alone.

// Looked up at a time, on the stack: (tile, tap) pairs, 16 to 33 KB, and tiles.
constexpr int kTilesAtOnce = 32;
constexpr Index kSegments = kTapsAcrossAtMost;

// One tap that a tile meets, and where each of its pixels reads; or how far from their first tap
// all do.
template <int kPixels>
struct Segment {
  Index tap;
  const float* from[kPixels];
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
template <int kPixels>
struct Place {
  Index count;
  Index row[kPixels], column[kPixels];
  const float* image[kPixels];
  Index pixel[kPixels];         // in the output
  bool is_one;                  // the same row and column of several images
  bool is_inside;               // no tap of any of them meets padding
  const float* start[kPixels];  // what shifts, if the pixels share them, are counted from
};

template <int kPixels>
inline void find(const Correlation& pass, Index tile, Place<kPixels>& place) {
  const Reach& reach = pass.reach;
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

// Looks up the taps, of some rows of the kernel, that any pixel of the tile meets; their number.
template <int kPixels>
inline Index look_up(const Correlation& pass, const Place<kPixels>& place, Index first_down,
                     Index last_down, Segment<kPixels>* segments) {
  const Reach& reach = pass.reach;
  Index count = 0;
  for (Index down = first_down; down < last_down; down++) {
    const Index* row_offset = reach.row_offset + down * reach.rows;
    Index by_row[kPixels], any = kOutside;
    for (int m = 0; m < kPixels; m++) any &= by_row[m] = row_offset[place.row[m]];
    if (any < 0) continue;  // the sign of all of them
    for (Index across = 0; across < reach.taps_across; across++) {
      const Index* column_offset = reach.column_offset + across * reach.columns;
      Segment<kPixels>& segment = segments[count];
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

// Likewise where all pixels are one place.
template <int kPixels>
inline Index look_up(const Correlation& pass, const Place<kPixels>& place, Index first_down,
                     Index last_down, Shift* shifts) {
  const Reach& reach = pass.reach;
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

// The products of one tile and one panel. Sums stay in registers over all taps; where the pixels
// share their shifts, so do the pointers.
template <int kVectors, int kPixels, typename Tap>
inline void multiply(const Correlation& pass, const Place<kPixels>& place, const Tap* taps,
                     Index count, Index block, bool begins) {
  constexpr int kWidth = kVectors * kLanes;
  constexpr bool kShares = kIsShift<Tap>;
  const Reach& reach = pass.reach;
  const Index run = reach.run, first_channel = block * kWidth;
  const Index channels = pass.channels - first_channel;
  const float* panels = pass.panels + block * reach.taps_down * reach.taps_across * run * kWidth;
  const auto out = [&](int m) { return pass.out + place.pixel[m] * pass.channels + first_channel; };
  Vector sum[kPixels][kVectors] = {};
  if (!begins)
#pragma GCC unroll 12
    for (int m = 0; m < kPixels; m++)  // unrolled: sums are registers, which have no index
      if (m < place.count) load_row(out(m), sum[m], channels);
  const float* from[kPixels];
  if constexpr (kShares)
    for (int m = 0; m < kPixels; m++) from[m] = place.start[m];
  for (Index t = 0; t < count; t++) {
    const float* panel = panels + taps[t].tap * run * kWidth;
    Index c = 0;
    if constexpr (kShares)
      c = taps[t].distance;
    else
      for (int m = 0; m < kPixels; m++) from[m] = taps[t].from[m];
    for (const Index end = c + run; c < end; c++) {
      Vector weights[kVectors];
      for (int v = 0; v < kVectors; v++) weights[v] = load(panel + v * kLanes);
#pragma GCC unroll 12
      for (int m = 0; m < kPixels; m++)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) sum[m][v] += from[m][c] * weights[v];
      panel += kWidth;
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < kPixels; m++)
    if (m < place.count) store_row(out(m), sum[m], channels);
}

// Tiles whose taps are looked up together, for some rows of the kernel.
template <int kPixels>
struct Batch {
  Place<kPixels> places[kTilesAtOnce];
  Index counts[kTilesAtOnce];
  Segment<kPixels> segments[kSegments];  // [tiles][taps]; likewise
  Shift shifts[kSegments];
  Shift inside[kSegments];  // [taps]
  Index taps;

  void look_up_all(const Correlation& pass, Index tiles, Index first_down, Index last_down) {
    const Index across = pass.reach.taps_across;
    taps = (last_down - first_down) * across;
    for (Index t = 0; t < taps; t++) {
      const Index tap = first_down * across + t;
      inside[t] = {tap, pass.reach.distance[tap]};
    }
    for (Index t = 0; t < tiles; t++) {
      const Place<kPixels>& place = places[t];
      if (place.is_inside)
        counts[t] = taps;
      else if (place.is_one)
        counts[t] = look_up(pass, place, first_down, last_down, shifts + t * taps);
      else
        counts[t] = look_up(pass, place, first_down, last_down, segments + t * taps);
    }
  }

  template <int kVectors>
  void multiply_tile(const Correlation& pass, Index t, Index block, bool begins) {
    const Place<kPixels>& place = places[t];
    if (place.is_inside || place.is_one) {
      const Shift* shared = place.is_inside ? inside : shifts + t * taps;
      multiply<kVectors>(pass, place, shared, counts[t], block, begins);
    } else {
      multiply<kVectors>(pass, place, segments + t * taps, counts[t], block, begins);
    }
  }
};

template <int kPixels, int kVectors>
void correlate_tiles(const Correlation& pass, Index first_tile, Index last_tile, Index first_block,
                     Index last_block) {
  const Index down = pass.reach.taps_down, across = pass.reach.taps_across;
  const Index down_at_once = smaller(down, kSegments / across);
  const Index tiles_at_once = smaller(kSegments / (down_at_once * across), kTilesAtOnce);
  Batch<kPixels> batch;
  for (Index tile = first_tile; tile < last_tile; tile += tiles_at_once) {
    const Index tiles = smaller(tiles_at_once, last_tile - tile);
    for (Index t = 0; t < tiles; t++) find(pass, tile + t, batch.places[t]);
    for (Index first = 0; first < down; first += down_at_once) {
      batch.look_up_all(pass, tiles, first, smaller(first + down_at_once, down));
      // All tiles read a panel before the next one is begun: it stays in the nearest cache.
      for (Index block = first_block; block < last_block; block++)
        for (Index t = 0; t < tiles; t++)
          batch.template multiply_tile<kVectors>(pass, t, block, first == 0);
    }
  }
}

void correlate(const Correlation& pass, Index first_tile, Index last_tile, Index first_block,
               Index last_block) {
  switch (pass.width / kLanes) {
    case 1:
      return correlate_tiles<tallest(1), 1>(pass, first_tile, last_tile, first_block, last_block);
    case 2:
      return correlate_tiles<tallest(2), 2>(pass, first_tile, last_tile, first_block, last_block);
#if JAXNETS_REGISTERS >= 32
    case 3:
      return correlate_tiles<tallest(3), 3>(pass, first_tile, last_tile, first_block, last_block);
    case 4:
      return correlate_tiles<tallest(4), 4>(pass, first_tile, last_tile, first_block, last_block);
#endif
  }
}
