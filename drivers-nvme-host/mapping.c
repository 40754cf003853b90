// SPDX-License-Identifier: GPL-2.0
/*
 * nvme-ng: DMA mappings of memory that a program uses again and again.
 *
 * Behind an IOMMU a mapping costs more than a command.  A program that has no
 * regions uses the same buffers again, registered with io_uring or not: once a
 * folio comes for the second time its mapping stays.  A command gets hold of
 * its pages as ever, and what it looks up is where the controller finds that
 * very folio: whatever has become of the program's addresses, it cannot be
 * taken for another one, because the mapping holds a reference to it.
 *
 * Who may use it: commands of the file for which it was made.
 * How long it stays: until the file is closed, its memory is unmapped by the
 * program or wanted by the kernel, or others take its place; commands in flight
 * are waited for by nobody.
 * Who is charged: the user, as for locked memory.  Beyond the limit, or where
 * anything fails, each command is mapped for itself.
 *
 * Lock: nvme_ng_mappings_lock protects who can be found, all the lists and the
 * trees.  It is not taken in interrupts.
 */
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/shrinker.h>
#include "mapping.h"

/* folios of a file: 64 MiB in pages */
#define NVME_NG_MAX_MAPPINGS	16384

/* mappings that are looked at to find one that is not in use */
#define NVME_NG_LOOK_AT		16

/* one of so many folios is kept although it was not seen before */
#define NVME_NG_UNSEEN		8

/* jiffies without a try after one has failed */
#define NVME_NG_RETRY		HZ

static bool keep_mappings = true;
module_param(keep_mappings, bool, 0644);
MODULE_PARM_DESC(keep_mappings,
		 "Keep memory that commands use again mapped behind an IOMMU.");

static DEFINE_SPINLOCK(nvme_ng_mappings_lock);
static LIST_HEAD(nvme_ng_lru);
static unsigned long nvme_ng_nr_lru;
static LLIST_HEAD(nvme_ng_free_list);

/**
 * struct nvme_ng_mm - memory of a process of which something is mapped
 * @notifier: tells what goes
 * @tree: &nvme_ng_mapping.where
 * @seq: how often memory went
 * @gone: the process has ended
 */
struct nvme_ng_mm {
	struct mmu_notifier	notifier;
	struct rb_root_cached	tree;
	unsigned int		seq;
	bool			gone;
};

/* Nobody finds it any more; nvme_ng_mappings_lock is held. */
static void nvme_ng_forget(struct nvme_ng_mapping *m)
{
	hlist_del_rcu(&m->node);
	list_del(&m->on_file);
	list_del(&m->on_lru);
	nvme_ng_nr_lru--;
	interval_tree_remove(&m->where, &m->mm->tree);
	m->mappings->nr--;
	m->mappings = NULL;
	nvme_ng_put_mapping(m);
}

static struct mmu_notifier *nvme_ng_alloc_mm(struct mm_struct *mm)
{
	struct nvme_ng_mm *nm;

	nm = kzalloc_obj(*nm, GFP_KERNEL_ACCOUNT);
	if (!nm)
		return ERR_PTR(-ENOMEM);
	nm->tree = RB_ROOT_CACHED;
	return &nm->notifier;
}

static void nvme_ng_free_mm(struct mmu_notifier *notifier)
{
	kfree(container_of(notifier, struct nvme_ng_mm, notifier));
}

static void nvme_ng_forget_range(struct nvme_ng_mm *nm, unsigned long start,
				 unsigned long last)
{
	struct interval_tree_node *node;

	do {
		spin_lock(&nvme_ng_mappings_lock);
		WRITE_ONCE(nm->seq, nm->seq + 1);
		node = interval_tree_iter_first(&nm->tree, start, last);
		if (node)
			nvme_ng_forget(container_of(node,
						    struct nvme_ng_mapping,
						    where));
		spin_unlock(&nvme_ng_mappings_lock);
	} while (node);
}

/*
 * Memory goes from the program's addresses; the mapping keeps it from being
 * used for anything else until it has gone, too.  Does not sleep.
 */
static int nvme_ng_invalidate(struct mmu_notifier *notifier,
			      const struct mmu_notifier_range *range)
{
	struct nvme_ng_mm *nm = container_of(notifier, struct nvme_ng_mm,
					     notifier);

	if (range->event == MMU_NOTIFY_UNMAP ||
	    range->event == MMU_NOTIFY_CLEAR)
		nvme_ng_forget_range(nm, range->start, range->end - 1);
	return 0;
}

static void nvme_ng_release_mm(struct mmu_notifier *notifier,
			       struct mm_struct *mm)
{
	struct nvme_ng_mm *nm = container_of(notifier, struct nvme_ng_mm,
					     notifier);

	WRITE_ONCE(nm->gone, true);
	nvme_ng_forget_range(nm, 0, ULONG_MAX);
}

static const struct mmu_notifier_ops nvme_ng_mm_ops = {
	.invalidate_range_start	= nvme_ng_invalidate,
	.release		= nvme_ng_release_mm,
	.alloc_notifier		= nvme_ng_alloc_mm,
	.free_notifier		= nvme_ng_free_mm,
};

static enum dma_data_direction
nvme_ng_mapping_dir(const struct nvme_ng_mapping *m)
{
	return m->write ? DMA_BIDIRECTIONAL : DMA_TO_DEVICE;
}

/* &nvme_ng_device.mapping keeps the controller. */
static void nvme_ng_unmap_mapping(struct nvme_ng_mapping *m)
{
	dma_unmap_page_attrs(m->device->ctrl->dev, m->dma, m->nr << PAGE_SHIFT,
			     nvme_ng_mapping_dir(m), NVME_NG_REGION_ATTRS);
}

static void nvme_ng_free_mapping(struct nvme_ng_mapping *m)
{
	struct nvme_ng_device *device = m->device;
	bool mapped;

	down_read(&device->mapping);
	spin_lock(&nvme_ng_mappings_lock);
	mapped = !list_empty(&m->on_device);
	list_del_init(&m->on_device);
	spin_unlock(&nvme_ng_mappings_lock);
	if (mapped)
		nvme_ng_unmap_mapping(m);
	up_read(&device->mapping);
	if (m->locked.user)
		nvme_ng_uncharge(&m->locked);
	put_page(m->page);
	nvme_ng_put_device(device);
	kfree_rcu(m, rcu);
}

static void nvme_ng_free_work(struct work_struct *work)
{
	struct llist_node *list = llist_del_all(&nvme_ng_free_list);
	struct nvme_ng_mapping *m, *next;

	llist_for_each_entry_safe(m, next, list, free) {
		nvme_ng_free_mapping(m);
		cond_resched();
	}
}

static DECLARE_WORK(nvme_ng_free_mappings_work, nvme_ng_free_work);

/**
 * nvme_ng_put_last_mapping - nobody has the mapping any more
 * @m: the mapping
 *
 * Any context.
 */
void nvme_ng_put_last_mapping(struct nvme_ng_mapping *m)
{
	if (llist_add(&m->free, &nvme_ng_free_list))
		queue_work(nvme_ng_wq, &nvme_ng_free_mappings_work);
}

/* Memory of programs, for which no file system waits? */
static bool nvme_ng_can_keep(struct folio *folio)
{
	return (folio_test_anon(folio) || folio_test_swapbacked(folio) ||
		folio_test_hugetlb(folio)) && !folio_test_ksm(folio) &&
		!folio_is_zone_device(folio);
}

/* Map it; @m is freed by the caller if that fails. */
static int nvme_ng_map_mapping(struct nvme_ng_mapping *m)
{
	struct nvme_ng_device *device = m->device;
	struct device *dev;
	int ret = -ENODEV;

	/* nobody waits for a removal */
	if (!down_read_trylock(&device->mapping))
		return -EBUSY;
	if (device->gone)
		goto out;
	dev = device->ctrl->dev;
	ret = -EOPNOTSUPP;
	m->dma = dma_map_page_attrs(dev, m->page, 0, m->nr << PAGE_SHIFT,
				    nvme_ng_mapping_dir(m),
				    NVME_NG_REGION_ATTRS);
	if (dma_mapping_error(dev, m->dma))
		goto out;
	/* what is copied must not be kept */
	if (nvme_ng_need_sync(dev, m->dma)) {
		nvme_ng_unmap_mapping(m);
		goto out;
	}
	spin_lock(&nvme_ng_mappings_lock);
	list_add(&m->on_device, &device->mappings);
	spin_unlock(&nvme_ng_mappings_lock);
	ret = 0;
out:
	up_read(&device->mapping);
	return ret;
}

/*
 * Make room for one more: the oldest that was not in use lately goes.
 * nvme_ng_mappings_lock is held.
 */
static bool nvme_ng_make_room(struct nvme_ng_mappings *all)
{
	struct nvme_ng_mapping *m, *next;
	unsigned int n = NVME_NG_LOOK_AT;

	if (all->nr < NVME_NG_MAX_MAPPINGS)
		return true;
	list_for_each_entry_safe(m, next, &all->list, on_file) {
		if (!m->used) {
			nvme_ng_forget(m);
			return true;
		}
		m->used = false;
		list_move_tail(&m->on_file, &all->list);
		if (!--n)
			break;
	}
	return false;
}

/*
 * It can be found from now on, unless there is another one.  Return: false if
 * the next one would have no better luck.
 */
static bool nvme_ng_publish_mapping(struct nvme_ng_mappings *all,
				    struct nvme_ng_mapping *m,
				    unsigned int seq)
{
	struct hlist_head *head = &all->hash[hash_ptr(m->page,
						      NVME_NG_MAPPING_BITS)];
	struct nvme_ng_mapping *old;
	bool room, there = false;
	struct hlist_node *next;

	spin_lock(&nvme_ng_mappings_lock);
	/* the memory may have gone meanwhile */
	room = m->mm->seq == seq && !m->mm->gone && nvme_ng_make_room(all);
	hlist_for_each_entry_safe(old, next, head, node) {
		if (old->page != m->page || old->device != m->device)
			continue;
		/* one that may be written to does for both */
		if (old->write >= m->write)
			there = true;
		else
			nvme_ng_forget(old);
	}
	if (room && !there) {
		refcount_inc(&m->ref);
		m->mappings = all;
		all->nr++;
		list_add_tail(&m->on_file, &all->list);
		list_add_tail(&m->on_lru, &nvme_ng_lru);
		nvme_ng_nr_lru++;
		interval_tree_insert(&m->where, &m->mm->tree);
		hlist_add_head_rcu(&m->node, head);
	}
	spin_unlock(&nvme_ng_mappings_lock);
	return room || there;
}

/* What tells of the memory of this process; the file keeps it. */
static struct nvme_ng_mm *nvme_ng_get_mm(struct nvme_ng_mappings *all)
{
	struct mmu_notifier *notifier;
	struct nvme_ng_mm *nm;
	unsigned int i;

	/* they are never taken out */
	for (i = 0; i < ARRAY_SIZE(all->mm); i++) {
		nm = READ_ONCE(all->mm[i]);
		if (!nm)
			break;
		if (nm->notifier.mm == current->mm)
			return nm;
	}
	if (i == ARRAY_SIZE(all->mm))
		return NULL;
	/* a thread that holds it may be a long time in a fault */
	if (mmap_write_lock_killable(current->mm))
		return NULL;
	notifier = mmu_notifier_get_locked(&nvme_ng_mm_ops, current->mm);
	mmap_write_unlock(current->mm);
	if (IS_ERR(notifier))
		return NULL;
	nm = container_of(notifier, struct nvme_ng_mm, notifier);
	if (!cmpxchg(&all->mm[i], NULL, nm))
		return nm;
	/* another thread was faster; the next command has it */
	mmu_notifier_put(notifier);
	return NULL;
}

/*
 * Does the program have the page at this address, where the notifier would tell
 * that it goes?  It leaves memory that must stay movable on this occasion.
 */
static bool nvme_ng_is_there(const struct page *page, unsigned long addr,
			     bool write)
{
	struct page *there;

	if (pin_user_pages_fast(addr & PAGE_MASK, 1,
				FOLL_LONGTERM | (write ? FOLL_WRITE : 0),
				&there) != 1)
		return false;
	unpin_user_page(there);
	return there == page;
}

static struct nvme_ng_mapping *
nvme_ng_new_mapping(struct nvme_ng_device *device, struct folio *folio,
		    struct page *page, unsigned long addr, bool write)
{
	struct nvme_ng_mapping *m;

	m = kzalloc_obj(*m, GFP_KERNEL_ACCOUNT);
	if (!m)
		return NULL;
	refcount_set(&m->ref, 1);
	INIT_LIST_HEAD(&m->on_device);
	m->page = &folio->page;
	m->nr = folio_nr_pages(folio);
	m->write = write;
	m->device = device;
	kref_get(&device->ref);
	folio_get(folio);
	/* where the folio would begin */
	m->where.start = (addr & PAGE_MASK) -
		(page_to_pfn(page) - page_to_pfn(m->page)) * PAGE_SIZE;
	m->where.last = m->where.start + m->nr * PAGE_SIZE - 1;
	/* only what the program itself has there */
	if (m->where.last < m->where.start) {
		m->where.start = addr & PAGE_MASK;
		m->where.last = m->where.start + PAGE_SIZE - 1;
	}
	/* the rest is for memory that programs ask to be locked */
	if (!nvme_ng_charge(&m->locked, m->nr, 2) && !nvme_ng_map_mapping(m))
		return m;
	nvme_ng_put_mapping(m);
	return NULL;
}

/*
 * Did the folio come before?  Where more of them are used in turns than there
 * is room for, they are kept one by one.
 */
static bool nvme_ng_was_seen(struct nvme_ng_mappings *all,
			     const struct page *page)
{
	const struct page **seen = all->seen[hash_ptr(page,
						      NVME_NG_MAPPING_BITS)];
	unsigned int unseen = READ_ONCE(all->unseen) + 1;

	if (READ_ONCE(seen[0]) == page || READ_ONCE(seen[1]) == page)
		return true;
	WRITE_ONCE(seen[1], READ_ONCE(seen[0]));
	WRITE_ONCE(seen[0], page);
	WRITE_ONCE(all->unseen, unseen);
	return !(unseen % NVME_NG_UNSEEN);
}

static struct nvme_ng_mappings *nvme_ng_alloc_mappings(struct nvme_ng_open *open)
{
	struct nvme_ng_mappings *all, *old;

	all = kzalloc_obj(*all, GFP_KERNEL_ACCOUNT);
	if (!all)
		return NULL;
	INIT_LIST_HEAD(&all->list);
	all->retry = jiffies;
	old = cmpxchg(&open->mappings, NULL, all);
	if (!old)
		return all;
	kfree(all);
	return old;
}

/**
 * nvme_ng_keep_mapping - map a folio for the commands to come
 * @open: the file
 * @device: the controller, alive
 * @page: a page that the caller has got hold of
 * @addr: where the program has it
 * @write: the controller may write to it
 *
 * Little is done for folios that come for the first time.  Process context,
 * sleeps, also for the address space of the process.
 *
 * Return: with a reference, for nvme_ng_put_mapping(); or NULL if the command
 * has to be mapped for itself.
 */
struct nvme_ng_mapping *nvme_ng_keep_mapping(struct nvme_ng_open *open,
					     struct nvme_ng_device *device,
					     struct page *page,
					     unsigned long addr, bool write)
{
	struct folio *folio = page_folio(page);
	struct nvme_ng_mappings *all;
	struct nvme_ng_mapping *m;
	struct nvme_ng_mm *nm;
	unsigned int seq;

	if (!READ_ONCE(keep_mappings) || !current->mm)
		return NULL;
	all = READ_ONCE(open->mappings) ?: nvme_ng_alloc_mappings(open);
	if (!all)
		return NULL;
	if (!nvme_ng_was_seen(all, &folio->page) ||
	    time_before(jiffies, READ_ONCE(all->retry)) ||
	    !nvme_ng_can_keep(folio))
		return NULL;
	nm = nvme_ng_get_mm(all);
	if (!nm)
		return NULL;
	seq = READ_ONCE(nm->seq);
	if (!nvme_ng_is_there(page, addr, write))
		return NULL;
	m = nvme_ng_new_mapping(device, folio, page, addr, write);
	if (m)
		m->mm = nm;
	/* even if others do not find it, this command can use it */
	if (!m || !nvme_ng_publish_mapping(all, m, seq))
		WRITE_ONCE(all->retry, jiffies + NVME_NG_RETRY);
	return m;
}

/**
 * nvme_ng_free_mappings - let all mappings of a file go
 * @open: no command is in flight
 */
void nvme_ng_free_mappings(struct nvme_ng_open *open)
{
	struct nvme_ng_mappings *all = open->mappings;
	struct nvme_ng_mapping *m;
	unsigned int i;

	if (!all)
		return;
	do {
		spin_lock(&nvme_ng_mappings_lock);
		m = list_first_entry_or_null(&all->list,
					     struct nvme_ng_mapping, on_file);
		if (m)
			nvme_ng_forget(m);
		spin_unlock(&nvme_ng_mappings_lock);
		cond_resched();
	} while (m);
	for (i = 0; i < ARRAY_SIZE(all->mm); i++)
		if (all->mm[i])
			mmu_notifier_put(&all->mm[i]->notifier);
	kfree(all);
}

/**
 * nvme_ng_unmap_mappings - end all mappings for a controller
 * @device: gone, no command is in flight; &nvme_ng_device.mapping is held for
 *	writing
 */
void nvme_ng_unmap_mappings(struct nvme_ng_device *device)
{
	struct nvme_ng_mapping *m, *next;

	/* who frees one does not find it mapped */
	list_for_each_entry_safe(m, next, &device->mappings, on_device) {
		list_del_init(&m->on_device);
		nvme_ng_unmap_mapping(m);
		cond_resched();
	}
}

static unsigned long nvme_ng_count_mappings(struct shrinker *shrinker,
					    struct shrink_control *sc)
{
	return READ_ONCE(nvme_ng_nr_lru) ?: SHRINK_EMPTY;
}

/* What is freed is freed later: nobody waits for it here. */
static unsigned long nvme_ng_scan_mappings(struct shrinker *shrinker,
					   struct shrink_control *sc)
{
	unsigned long n = 0, left = sc->nr_to_scan;
	struct nvme_ng_mapping *m, *next;

	spin_lock(&nvme_ng_mappings_lock);
	list_for_each_entry_safe(m, next, &nvme_ng_lru, on_lru) {
		if (!left--)
			break;
		if (m->used) {
			m->used = false;
			list_move_tail(&m->on_lru, &nvme_ng_lru);
			continue;
		}
		n += m->nr;
		nvme_ng_forget(m);
	}
	spin_unlock(&nvme_ng_mappings_lock);
	return n ?: SHRINK_STOP;
}

static struct shrinker *nvme_ng_shrinker;

/**
 * nvme_ng_init_mappings - when the module is loaded
 *
 * Return: 0 or -ENOMEM.
 */
int nvme_ng_init_mappings(void)
{
	nvme_ng_shrinker = nvme_ng_new_shrinker(nvme_ng_count_mappings,
						nvme_ng_scan_mappings);
	return nvme_ng_shrinker ? 0 : -ENOMEM;
}

/**
 * nvme_ng_exit_mappings - when it is removed
 *
 * There is no open file.
 */
void nvme_ng_exit_mappings(void)
{
	nvme_ng_free_shrinker(nvme_ng_shrinker);
	flush_work(&nvme_ng_free_mappings_work);
	mmu_notifier_synchronize();
}
