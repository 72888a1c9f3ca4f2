// Tiles of a convolution's forward pass and input gradient. Included by tiles.cc alone.

// Looked up at a time, on the stack: (tile, tap) pairs, 16 to 33 KB, and tiles.
constexpr int kTilesAtOnce = 32;
constexpr Index kSegments = kTapsAcrossAtMost;

// One tap that a tile meets: where each of its pixels reads.
template <int kPixels>
struct Segment {
  Index tap;
  const float* from[kPixels];
};

// The pixels of a tile: where they lie in the source's tables and in the output. The last tile of a pass
// may have fewer; its other places repeat the last pixel and are not stored.
template <int kPixels>
struct Place {
  Index count;
  const float* source[kPixels];
  Index row[kPixels], column[kPixels];
  Index pixel[kPixels];
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
  for (int m = 0; m < kPixels; m++) {
    place.row[m] = pass.row_order[row];
    place.column[m] = pass.column_order[column];
    place.source[m] = reach.source + image * reach.image_stride;
    place.pixel[m] = (image * reach.rows + place.row[m]) * reach.columns + place.column[m];
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
}

// Looks up the taps, of some rows of the kernel, that any pixel of the tile meets; their number.
template <int kPixels>
inline Index look_up(const Correlation& pass, const Place<kPixels>& place, Index first_down, Index last_down,
                     Segment<kPixels>* segments) {
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
        segment.from[m] = outside < 0 ? pass.zeros : place.source[m] + by_row[m] + by_column;
        sign &= outside;
      }
      count += sign >= 0;
    }
  }
  return count;
}

// The products of one tile and one panel. Sums stay in registers over all segments.
template <int kPixels, int kVectors>
inline void multiply(const Correlation& pass, const Place<kPixels>& place, const Segment<kPixels>* segments,
                     Index count, const float* panels, Index first_channel, bool begins) {
  const Index channels = pass.channels - first_channel, run = pass.reach.run;
  Vector sum[kPixels][kVectors] = {};
  if (!begins)
#pragma GCC unroll 12
    for (int m = 0; m < kPixels; m++)  // every sum by a number known now, or they would live in memory
      if (m < place.count) load_row(pass.out + place.pixel[m] * pass.channels + first_channel, sum[m], channels);
  for (Index s = 0; s < count; s++) {
    const float* panel = panels + segments[s].tap * run * (kVectors * kLanes);
    const float* from[kPixels];
    for (int m = 0; m < kPixels; m++) from[m] = segments[s].from[m];
    for (Index c = 0; c < run; c++) {
      Vector weights[kVectors];
      for (int v = 0; v < kVectors; v++) weights[v] = load(panel + v * kLanes);
#pragma GCC unroll 12
      for (int m = 0; m < kPixels; m++)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) sum[m][v] += from[m][c] * weights[v];
      panel += kVectors * kLanes;
    }
  }
#pragma GCC unroll 12
  for (int m = 0; m < kPixels; m++)
    if (m < place.count) store_row(pass.out + place.pixel[m] * pass.channels + first_channel, sum[m], channels);
}

template <int kPixels, int kVectors>
void correlate_tiles(const Correlation& pass, Index first_tile, Index last_tile, Index first_block,
                     Index last_block) {
  const Index down = pass.reach.taps_down, across = pass.reach.taps_across;
  const Index panel = down * across * pass.reach.run * (kVectors * kLanes);
  Segment<kPixels> segments[kSegments];
  Place<kPixels> places[kTilesAtOnce];
  Index counts[kTilesAtOnce];
  const Index down_at_once = smaller(down, kSegments / across), taps_at_once = down_at_once * across;
  const Index at_once = smaller(kSegments / taps_at_once, kTilesAtOnce);
  for (Index tile = first_tile; tile < last_tile; tile += at_once) {
    const Index tiles = smaller(at_once, last_tile - tile);
    for (Index t = 0; t < tiles; t++) find(pass, tile + t, places[t]);
    for (Index first = 0; first < down; first += down_at_once) {
      const Index last = smaller(first + down_at_once, down);
      for (Index t = 0; t < tiles; t++)
        counts[t] = look_up(pass, places[t], first, last, segments + t * taps_at_once);
      // All tiles read a panel before the next one is begun: it stays in the cache nearest to the core.
      for (Index block = first_block; block < last_block; block++)
        for (Index t = 0; t < tiles; t++)
          multiply<kPixels, kVectors>(pass, places[t], segments + t * taps_at_once, counts[t],
                                      pass.panels + block * panel, block * kVectors * kLanes, first == 0);
    }
  }
}

constexpr int pixels_of(int vectors) { return kSums / vectors < kTallest ? kSums / vectors : kTallest; }

void correlate(const Correlation& pass, Index first_tile, Index last_tile, Index first_block, Index last_block) {
  switch (pass.width / kLanes) {
    case 1: return correlate_tiles<pixels_of(1), 1>(pass, first_tile, last_tile, first_block, last_block);
    case 2: return correlate_tiles<pixels_of(2), 2>(pass, first_tile, last_tile, first_block, last_block);
#if JAXNETS_REGISTERS >= 32
    case 3: return correlate_tiles<pixels_of(3), 3>(pass, first_tile, last_tile, first_block, last_block);
    case 4: return correlate_tiles<pixels_of(4), 4>(pass, first_tile, last_tile, first_block, last_block);
#endif
  }
}
