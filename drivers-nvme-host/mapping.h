/* SPDX-License-Identifier: GPL-2.0 */
/*
 * nvme-ng: DMA mappings of memory that a program uses again and again.
 */
#ifndef _NVME_NG_MAPPING_H
#define _NVME_NG_MAPPING_H

#include <linux/hash.h>
#include <linux/interval_tree.h>
#include <linux/llist.h>
#include <linux/mm.h>
#include "region.h"

#define NVME_NG_MAPPING_BITS	10

/* processes that have memory mapped through one file */
#define NVME_NG_MAPPING_MMS	4

struct nvme_ng_mm;

/**
 * struct nvme_ng_mapping - a folio that stays mapped for a controller
 * @node: in &nvme_ng_mappings.hash, looked up under RCU
 * @page: the first one of the folio; a reference keeps it, so that it is the
 *	same memory for as long as the mapping can be found
 * @device: the controller
 * @ref: one while it can be found, one of each command
 * @write: the controller may write
 * @used: since the last look at it
 * @nr: pages
 * @dma: where the controller finds @page
 * @mappings: of which file, while it can be found
 * @on_file: in &nvme_ng_mappings.list
 * @on_device: in &nvme_ng_device.mappings, empty once it is unmapped
 * @on_lru: among those of all files, the oldest first
 * @where: user addresses of the folio in @mm
 * @mm: who is told when memory there goes
 * @locked: who is charged
 * @free: next one to be let go of
 * @rcu: for kfree_rcu()
 */
struct nvme_ng_mapping {
	struct hlist_node		node;
	struct page			*page;
	struct nvme_ng_device		*device;
	refcount_t			ref;
	bool				write;
	bool				used;
	unsigned long			nr;
	dma_addr_t			dma;
	struct nvme_ng_mappings		*mappings;
	struct list_head		on_file;
	struct list_head		on_device;
	struct list_head		on_lru;
	struct interval_tree_node	where;
	struct nvme_ng_mm		*mm;
	struct nvme_ng_locked		locked;
	struct llist_node		free;
	struct rcu_head			rcu;
};

/**
 * struct nvme_ng_mappings - mappings of an open node
 * @nr: how many
 * @retry: jiffies before which nothing is mapped, after a failure
 * @mm: of which processes, each with a reference
 * @list: all of them, the oldest first
 * @seen: folios that were used once, by their hash, the last two of each
 * @unseen: how often one came that was not among them
 * @hash: by folio
 */
struct nvme_ng_mappings {
	unsigned int		nr;
	unsigned long		retry;
	struct nvme_ng_mm	*mm[NVME_NG_MAPPING_MMS];
	struct list_head	list;
	const struct page	*seen[1 << NVME_NG_MAPPING_BITS][2];
	unsigned int		unseen;
	struct hlist_head	hash[1 << NVME_NG_MAPPING_BITS];
};

#ifdef CONFIG_MMU_NOTIFIER
void nvme_ng_put_last_mapping(struct nvme_ng_mapping *m);
struct nvme_ng_mapping *nvme_ng_keep_mapping(struct nvme_ng_open *open,
					     struct nvme_ng_device *device,
					     struct page *page,
					     unsigned long addr, bool write);
#else
static inline void nvme_ng_put_last_mapping(struct nvme_ng_mapping *m)
{
}

static inline struct nvme_ng_mapping *
nvme_ng_keep_mapping(struct nvme_ng_open *open, struct nvme_ng_device *device,
		     struct page *page, unsigned long addr, bool write)
{
	return NULL;
}
#endif

/* A command has ended.  Any context. */
static inline void nvme_ng_put_mapping(struct nvme_ng_mapping *m)
{
	if (unlikely(refcount_dec_and_test(&m->ref)))
		nvme_ng_put_last_mapping(m);
}

/* The mapping of a page that the caller has got hold of, or NULL.  RCU. */
static inline struct nvme_ng_mapping *
nvme_ng_find_mapping(struct nvme_ng_mappings *all, struct nvme_ng_device *device,
		     const struct page *page, bool write)
{
	const struct page *first = compound_head(page);
	struct nvme_ng_mapping *m;

	hlist_for_each_entry_rcu(m, &all->hash[hash_ptr(first,
							NVME_NG_MAPPING_BITS)],
				 node, rcu_read_lock_sched_held())
		if (m->page == first && m->device == device &&
		    m->write >= write && refcount_inc_not_zero(&m->ref))
			break;
	if (m && unlikely(!READ_ONCE(m->used)))
		WRITE_ONCE(m->used, true);
	return m;
}

/*
 * The mapping of @page, which the caller has got hold of, or NULL.  With a
 * reference, for nvme_ng_put_mapping().  @addr is where the program has it.
 */
static inline struct nvme_ng_mapping *
nvme_ng_get_mapping(struct nvme_ng_open *open, struct nvme_ng_device *device,
		    struct page *page, unsigned long addr, bool write)
{
	/* pairs with nvme_ng_alloc_mappings() */
	struct nvme_ng_mappings *all = smp_load_acquire(&open->mappings);
	struct nvme_ng_mapping *m;

	if (!device->keeps_mappings)
		return NULL;
	if (likely(all)) {
		rcu_read_lock();
		m = nvme_ng_find_mapping(all, device, page, write);
		rcu_read_unlock();
		if (m)
			return m;
	}
	return nvme_ng_keep_mapping(open, device, page, addr, write);
}

/* Where the controller finds a byte of a page of the folio. */
static inline dma_addr_t nvme_ng_mapping_dma(const struct nvme_ng_mapping *m,
					     const struct page *page, u32 offset)
{
	return m->dma + (page_to_phys(page) - page_to_phys(m->page)) + offset;
}

/* Is all of that in the folio?  Neighbours may be another one's. */
static inline bool nvme_ng_in_mapping(const struct nvme_ng_mapping *m,
				      const struct page *page, u32 offset,
				      u32 len)
{
	return page_to_phys(page) - page_to_phys(m->page) + offset + len <=
		m->nr << PAGE_SHIFT;
}

#endif /* _NVME_NG_MAPPING_H */
