"""The sentences of challenge-zh-en, written by us, by phenomenon.

Each sentence is a block: the Chinese, and below it, by the sign in front,

    = a reference, or several
    + what a translation must have to have kept the point, or several
    - what it must not have
    x a mistranslation that misses the point

Patterns are regular expressions, searched for in the translation in lower
case. Capitals in them are names, see `NAMES`.
"""

NAMES = {
    "NOT": r"(?:n't\b|\b(?:not|no|never|none|nothing|nobody|neither|nor"
    r"|cannot|without)\b)",
    "DO_NOT": r"\b(?:don't|do not|never|mustn't|must not|shouldn't"
    r"|should not|can't|cannot)\b",
    "SUBWAY": r"\b(?:subway|metro|underground|tube)\b",
    "MOTHER": r"\b(?:mother|mom|mum|mama|mommy|mummy)",
    "GRANDFATHER": r"\b(?:grandfather|grandpa|granddad|grandad)",
    "BICYCLE": r"\b(?:bicycle|bike)s?\b",
    "TV": r"\b(?:tv|television|telly)\b",
}

TABLE = r"""
# measure words

她买了一双红色的鞋。
= She bought a pair of red shoes.
= She bought a red pair of shoes.
+ \bshoes\b
+ \bred\b
- \b(two|2|both|double)\b
x She bought a red shoe.

桌上有三杯热茶。
= There are three cups of hot tea on the table.
+ \b(three|3)\b.*\b(cups|glasses|mugs|teas)\b
x There is a cup of hot tea on the table.

我早饭只吃了两片面包。
= I only ate two slices of bread for breakfast.
= All I had for breakfast was two slices of bread.
= I had only two slices of bread for breakfast.
+ \b(two|2|a couple of) (slices|pieces)\b
x I ate bread only twice for breakfast.

山上有一群羊。
= There is a flock of sheep on the hill.
= There is a flock of sheep on the mountain.
= There is a herd of goats on the mountain.
+ \b(flock|herd|group|bunch)\b.*\b(sheep|goats)\b
x There is a sheep on the hill.

请给我拿一张纸来。
= Please bring me a sheet of paper.
= Please get me a piece of paper.
+ \b(sheet|piece|slip|scrap|bit)s? of (\w+ )?paper\b|\bsome paper\b
x Please bring me the paper.

墙上挂着两幅画。
= There are two paintings hanging on the wall.
= Two pictures are hanging on the wall.
+ \b(two|2) (\w+ )?(pictures?|paintings?|drawings?)\b
x The picture is hanging on the wall.

这家店卖五种面包。
= This shop sells five kinds of bread.
= This store sells five different types of bread.
+ \b(five|5) (different )?(kinds|types|sorts|varieties|breads)\b
x This shop sells five loaves of bread.

我只喝了一口汤。
= I only had a sip of the soup.
= I took only one sip of the soup.
= I had only a mouthful of soup.
+ \b(sip|sipped|mouthful|spoonful|swallow|gulp|taste\w*|drink of)\b
+ \bsoup\b
x I only drank one bowl of soup.

他家养了两条狗和一只猫。
= His family has two dogs and a cat.
= His family keeps two dogs and one cat.
+ \b(two|2) dogs\b
+ \b(a|one|1) cat\b
x His family has a dog and two cats.

# tense and aspect

他正在厨房里洗碗。
= He is washing the dishes in the kitchen.
= He's doing the dishes in the kitchen.
= He's in the kitchen washing up.
+ \b(washing|doing|cleaning)\b
+ \bhe\b.*\b(dish|plate|washing( \w+)? up\b)
x He washed the dishes in the kitchen.

我去过那座岛两次。
= I have been to that island twice.
= I've visited that island twice.
+ \b(been|visited|went|gone)\b
+ \b(twice|(two|2) times)\b
x I will go to that island twice.

我们已经吃完午饭了。
= We have already finished lunch.
= We've already eaten lunch.
= We've already had our lunch.
+ \b(eaten|had|ate|finished|done)\b.*\blunch\b
x We are having lunch already.

门开着，灯也亮着。
= The door is open, and the light is on, too.
= The door was open and the lights were on.
+ \b(is|was|stands|stood|left)( \w+)? open\b|\bdoor's open\b
+ \b(on|lit|burning|shining)\b
x The door opened, and the light came on, too.

下个月我要搬家了。
= I'm going to move next month.
= I'll be moving to a new place next month.
+ \bmov(e|ing)\b
+ \bnext month\b
- \bwant(ed)?\b
x I wanted to move next month.

天快黑了，我们走吧。
= It's getting dark. Let's go.
= It will be dark soon, so let's go.
= It's almost dark; let's go.
+ \b(soon|getting|almost|nearly|about to|going to|growing|will)\b.*\bdark|\
dark\b.*\bsoon\b
x It got dark very fast, and we left.

我刚才在找钥匙。
= I was looking for my keys just now.
= I was just looking for my key.
+ \b(was|been)( \w+)? (looking|searching|hunting)\b.*\bkeys?\b
x I have just found my keys.

这本书我还没看完。
= I haven't finished this book yet.
= I have not finished reading this book yet.
+ NOT.*\b(finish|done|complet|whole|entire|all|through|end)|\
\bstill (reading|have|haven't)\b
+ \bbook\b
x I haven't read this book yet.

她一到家就睡着了。
= She fell asleep as soon as she got home.
= As soon as she got home, she fell asleep.
= She fell asleep the moment she got home.
+ \b(fell( \w+)? asleep|went( \w+)? to sleep)\b
+ \b(got|gets?|came|comes?|arriv\w+|reach\w+|return\w*|getting|coming)\b.*\
\bhome\b
x She sleeps when she is at home.

我已经等了你一个小时了。
= I've been waiting for you for an hour.
= I have been waiting an hour for you.
= I've been waiting for you for an hour already.
+ \b(have|'ve)( \w+)? (been waiting|waited)\b
x I will wait for you for an hour.

# order of time and place

他来之前，我已经走了。
= I had already left before he came.
= By the time he came, I had already left.
= Before he arrived, I was already gone.
+ \bi('d| had| was|'ve| have)?( \w+)? (left|gone)\b
+ \bhe('d| had)? (came|come|arrived|got|showed|turned)\b
- \bhe('d| had)?( \w+)? (left|gone)\b
x He had already left before I came.

他来了以后，雨就停了。
= After he came, the rain stopped.
= The rain stopped after he arrived.
= It stopped raining after he came.
+ \b(stopped|stops|ended|let up)\b
+ \b(after|once|when|as soon as|since)\b.*\bhe\b.*\b(came|come|arriv|got)
- \b(came|come|arrived|got here) (after|when|once|as soon as)\b
x He came after the rain had stopped.

先写作业，再看电视。
= Do your homework first, then watch TV.
= First do your homework and then watch television.
= Do your homework before you watch TV.
+ \bhomework\b.*\b(then|before|and)\b.*TV|\bbefore\b.*TV.*\bhomework\b|\
\b(after|once|when)\b.*\bhomework\b|DO_NOT.*TV.*\b(before|until)\b.*\bhomework\b
+ TV
- ^(?!DO_NOT).*TV.*\b(then|before)\b.*\bhomework\b
x Watch TV first, then do your homework.

从北京到上海要坐五个小时火车。
= It takes five hours by train from Beijing to Shanghai.
= It is a five-hour train ride from Beijing to Shanghai.
+ \bbeijing (to|and) shanghai\b|\bto shanghai from beijing\b
+ \b(five|5)\b
x It takes five hours by train from Shanghai to Beijing.

邮局在银行和学校中间。
= The post office is between the bank and the school.
+ \bpost office\b.*\b(between|middle)\b.*\b(bank|school)\b
+ \b(bank and|school and)\b
x The bank is between the post office and the school.

猫在椅子下面，不在床上。
= The cat is under the chair, not on the bed.
= The cat isn't on the bed; it's under the chair.
+ \b(under|beneath|below|underneath) (the|a|that) chair\b
+ (n't|\bnot)( \w+)? (on|in) (the |a |that )?bed\b
x The cat is on the chair, not under the bed.

我妹妹每天早上在公园跑步。
= My younger sister runs in the park every morning.
= My little sister goes jogging in the park every morning.
= Every morning, my sister goes for a run in the park.
+ \b(runs?|running|jogs?|jogging)\b
+ \b(in|at|through|around) the park\b
+ \b(every|each) morning\b
x My sister ran to the park this morning.

我们下周五晚上在他家见面。
= We are meeting at his place next Friday evening.
= We will meet at his house next Friday night.
+ \bnext\b
+ \bfriday\b
+ \b(evening|night)\b
+ \bhis (house|place|home|apartment|family)\b
x We met at his house last Friday evening.

三年前我还在国外念书。
= Three years ago I was still studying abroad.
= I was still studying abroad three years ago.
+ \b(three|3) years (ago|before|earlier)\b
+ \b(was|were)\b.*\b(stud\w+|student|school|university|college)\b
x I have been studying abroad for three years.

# questions

你的新老师是男的还是女的？
= Is your new teacher a man or a woman?
= Is your new teacher male or female?
+ \b(man|male|he|guy)\b.*\bor\b.*\b(woman|female|she|lady)\b.*\?|\
\b(woman|female|she|lady)\b.*\bor\b.*\b(man|male|he|guy)\b.*\?
x Is your new teacher still a woman?

你明天来不来上课？
= Are you coming to class tomorrow?
= Will you come to class tomorrow or not?
+ \b(will|are|do|can|would)\b.*\byou\b.*\b(class|lesson|lessons|school)\b
+ \btomorrow\b.*\?
- \b(won't|aren't|don't|not com\w+|not going)\b
x You won't come to class tomorrow.

我坐地铁去，你呢？
= I'm going by subway. How about you?
= I'll take the subway. What about you?
= I'm taking the metro. And you?
+ SUBWAY
+ \b(and|how about|what about) you(rself)?\b.*\?|\b(are|do|will) you\?
x Are you going there by subway?

奇怪，我的雨伞呢？
= That's strange. Where is my umbrella?
= Strange, where's my umbrella?
+ \b(where|what happened to|what's become of)\b.*\bumbrella\b.*\?
x Strangely, is this my umbrella?

昨天是谁接的电话？
= Who answered the phone yesterday?
= Who was it that answered the phone yesterday?
+ \bwho\b.*\b(answered|picked|took|got|received)\b.*(phone|\bcall).*\?
x He answered the phone yesterday.

你怎么没告诉我他病了？
= Why didn't you tell me he was ill?
= How come you didn't tell me that he was sick?
+ \b(why|how come)\b
+ (n't|\bnot|\bnever)\b.*\b(tell|told|say|said|inform|let me know)
+ \?
x How can you tell me that he is ill?

这列火车开往哪个城市？
= Which city is this train going to?
= What city is this train bound for?
= What city does this train go to?
+ \b(which|what|where)\b.*\?
+ \btrain\b.*\b(go|goes|going|bound|head\w*|travel\w*|leav\w+)\b|\
\bdestination\b
- \b(when|how)\b
x This train is going to the city.

你会不会修自行车？
= Can you fix a bicycle?
= Do you know how to repair a bike?
= Can you repair bicycles?
+ \b(can you|know how|able to|could you)\b.*\?
+ BICYCLE
- \bcan't you\b
x You can't repair a bicycle.

你父母是怎么认识的？
= How did your parents meet?
= How did your parents get to know each other?
+ \bhow\b.*\bparents\b.*\?
+ \b(meet|met|get to know|got to know|each other|acquainted)\b
x Do you know your parents?

你多久洗一次车？
= How often do you wash your car?
= How often do you wash the car?
+ \b(how often|how frequently|how many times)\b.*\?
+ \bcars?\b
x How long have you been washing the car?

# negation

我不是不想去，是没时间。
= It's not that I don't want to go; I just don't have time.
= I do want to go. I just don't have the time.
+ (n't|\bnot) (that|because|as if|as though)\b.*\b(want|like|wish)|\
\b(do|i'd|would) (like|love|want)\b|\bi want\b
+ NOT.*\btime\b|\bbusy\b
x I don't want to go because I have no time.

别把这件事告诉别人。
= Don't tell anyone else about this.
= Don't tell other people about this.
+ DO_NOT.*\b(tell|say|mention|talk about|speak (of|about)|share)\b|\
\bsecret\b|\b(to yourself|between us|tell (no one|nobody))\b
x Tell somebody else about this.

整个晚上他一句话也没说。
= He didn't say a word all evening.
= He said nothing the whole evening.
= All evening he did not say a single word.
+ NOT.*\b(say|said|speak|spoke|utter\w*|word|words|talk)\b|\
\bsaid (nothing|not a|no)\b|\bsilent\b
+ \b(evening|night)\b
- \b(say|said) that\b
x He said one word the whole evening.

我没带钱，也没带手机。
= I have neither money nor my phone with me.
= I didn't bring any money or my phone.
= I didn't bring any money, and I didn't bring my phone, either.
+ NOT.*\b(money|cash)\b
+ \b(phone|cellphone|mobile)\b
- \bbut\b
x I didn't bring any money, but I brought my phone.

这个字没有人认识。
= Nobody knows this character.
= No one can read this character.
+ \b(nobody|no one|no-one|none|no person|no people)\b|n't (anyone|anybody)|\
\bnot (anyone|anybody|a single|a soul|one)\b
+ \b(character|word|letter)\b
x There are people who know this word.

这里不是所有人都会开车。
= Not everyone here can drive.
= Not everybody here knows how to drive.
+ \bnot (every|all\b)|n't (every|all)|\bsome (people|of)\b.*NOT
+ \b(drive|driving|drivers?)\b
x Nobody here can drive a car.

今天所有的商店都不开门。
= All the shops are closed today.
= None of the stores are open today.
+ \b(closed|shut)\b|\b(none|no)\b.*\bopen|(n't|\bnot) open
+ \b(shops?|stores?)\b
+ \b(all|every|none|no|any|each)\b
- \bnot (all|every)
x Not all shops are open today.

我不得不把车卖了。
= I had to sell my car.
= I had no choice but to sell the car.
+ \b(had to|have to|must|forced|obliged|compelled|no choice|needed to)\b
+ \bsell
- (n't|\bnot) (have to|able|sell)
x I could not sell my car.

我奶奶从来不坐飞机。
= My grandmother never travels by plane.
= My grandma never flies.
+ \bnever\b|(n't|\bnot) ever\b|NOT (fly|take (a )?planes?|travel)
+ \b(fly|flies|flown|planes?|airplanes?|aeroplanes?|air)\b
x My grandmother always travels by plane.

明天你不用带午饭。
= You don't need to bring lunch tomorrow.
= You don't have to bring your lunch tomorrow.
+ (n't|\bnot) (need|have|necessary|required)\b|\bneedn't\b|\bno need\b
+ \blunch\b
x Don't bring your lunch tomorrow.

# names

李小梅是王大明的妹妹。
= Li Xiaomei is Wang Daming's younger sister.
= Li Xiaomei is the little sister of Wang Daming.
+ \bxiao[- ]?mei( li)? is\b.*\bda[- ]?ming\b|\bsister is\b.*\bxiao[- ]?mei\b
+ \bda[- ]?ming's\b.*\bsister\b|\bsister (of|to)\b.*\bda[- ]?ming\b
x Wang Daming is Li Xiaomei's younger sister.

从苏州坐船到杭州要多久？
= How long does it take to get from Suzhou to Hangzhou by boat?
= How long is the boat trip from Suzhou to Hangzhou?
+ \bhow (long|much time|many hours)\b
+ \bsuzhou\b.*\bto hangzhou\b|\bto hangzhou from suzhou\b
x How long does it take to get from Hangzhou to Suzhou by boat?

张老师和他太太住在成都。
= Mr. Zhang and his wife live in Chengdu.
= Our teacher, Mr. Zhang, lives in Chengdu with his wife.
+ \bzhang\b
+ \bwife\b
+ \bchengdu\b
x Mr. Zhang and his wife live in the capital.

我在柏林认识了安娜。
= I met Anna in Berlin.
= I got to know Anna in Berlin.
+ \banna\b
+ \bberlin\b
x I met a woman in Boston.

约翰比玛丽先到伦敦。
= John got to London before Mary.
= John arrived in London before Mary did.
= John reached London earlier than Mary.
+ \blondon\b
+ \bjohn\b.*\b(before|earlier|sooner|first|ahead)\b.*\bmary\b|\
\bmary\b.*\b(after|later than)\b.*\bjohn\b
- \bjohn\b.*\b(after|later than)\b.*\bmary\b
x Mary got to London before John.

黄河没有长江长。
= The Yellow River is not as long as the Yangtze.
= The Yellow River is shorter than the Yangtze River.
+ \byellow river\b.*(\bshorter\b|(n't|\bnot)( \w+)? long)|\
\b(yangtze|chang ?jiang|yangzi)\b.*\blonger\b.*\byellow river\b
+ \b(yangtze|chang ?jiang|yangzi)\b
x The Yellow River is longer than the Yangtze.

玛丽的哥哥叫汤姆。
= Mary's older brother is called Tom.
= Mary's big brother's name is Tom.
= Mary has an older brother named Tom.
+ \bmary\b.*\bbrother\b.*\btom\b|\btom\b.*\bmary's\b.*\bbrother\b
x Tom's older brother is called Mary.

南京路上有一家小书店。
= There is a small bookshop on Nanjing Road.
= There's a little bookstore on Nanjing Road.
+ \bnanjing\b
+ \bbook ?(shop|store)\b
x There is a small bookstore on the road to Beijing.

# idioms

这次考试对他来说是小菜一碟。
= This exam was a piece of cake for him.
= For him, this exam is a piece of cake.
= This test was child's play for him.
+ \b(piece of cake|easy|nothing|breeze|no problem|simple)\b|\
\b(child's play|cinch|walk in the park)\b
+ \b(exam|examination|test|quiz)\b
x This exam is a small plate of vegetables to him.

到了国外要入乡随俗。
= When you are abroad, follow the local customs.
= When you go abroad, do as the locals do.
= In a foreign country, do as the people there do.
+ \b(customs?|locals|local ways?|romans?|do as|the way (people|they)|adapt)\b
x You should go to the village when you are abroad.

真是说曹操，曹操就到！
= Well, speak of the devil!
= Speak of the devil, and here he comes!
+ \b(speak|talk)\w* of the devil\b|\bhere (he|she) (is|comes)\b|\
\b(he|she|they)\b.*\b(appear|show)
- \bcao\b
x If you say Cao Cao, Cao Cao will arrive!

他这样做是画蛇添足。
= What he's doing is gilding the lily.
= By doing that, he's gilding the lily.
= By doing this, he is only spoiling it with needless extras.
+ \b(gild|lily\b|overd|unnecessar|superfluous|needless|too far\b|spoil)
x He draws a snake and adds feet in this way.

别担心，船到桥头自然直。
= Don't worry, things will work out in the end.
= Don't worry. It will all work out.
= Don't worry; everything will turn out fine.
+ \b(work|sort)\w* (itself |themselves )?out\b|\bturn out\b|\
\bbe (all right|alright|ok|okay|fine)\b|\bcross that bridge\b
- \b(boats?|ships?)\b
x Don't worry, the boat will go straight to the bridge.

我们俩一见如故。
= The two of us hit it off right away.
= We hit it off at once, like old friends.
= From the moment we met, we were like old friends.
+ \bhit it off\b|\bold friends\b|\bclicked\b|\
\bgot (on|along) (well|right|at once|from|like)\b|\
\bas (if|though)\b.*\bknown each other\b
x The two of us have met before.

外面下着倾盆大雨。
= It's pouring outside.
= It's raining cats and dogs outside.
= It is pouring with rain outside.
+ \b(pour\w*|heav\w+|hard|cats and dogs|buckets|torrent\w*|downpour)\b
+ \b(rain\w*|pour\w*|downpour)\b
x It is raining into a big basin outside.

他做事总是三心二意。
= He is always half-hearted about everything.
= He never puts his whole heart into anything he does.
= He does everything half-heartedly.
+ \bhalf-?\s?heart|\b(decide|focus\w*|concentrat\w+|indecisive)\b|\
\b(make up his mind|in two minds|his mind (is|wander\w*))\b|\
\bwhole (heart|mind)|\bwholeheart|\bpa(y|ys|id|ying)\b.*\battention\b
- \bthree\b
x He always does things with three hearts and two minds.

他学钢琴半途而废了。
= He gave up learning the piano halfway.
= He started learning the piano but gave it up halfway.
+ \b(gave|given|giving|quit|quitting|dropped|stopped|abandoned)\b
+ \bpiano\b
x He learned to play half of the piano.

这个消息让我大吃一惊。
= The news took me completely by surprise.
= I was astonished at this news.
= This news came as a great surprise to me.
+ \b(surpris|shock|astonish|amaz|stun|startl|aback)
+ \b(news|message|information)\b
x This news made me eat a lot.

# pronouns and dropped subjects

看完了就还给我。
= Give it back to me when you've finished reading it.
= Return it to me once you've read it.
+ \breturn\b.*\bme\b|\b(give|bring|hand|pass)\b.*\bback\b|\blet me have\b
+ \b(when|once|after|as soon as|if|finish\w*|done)\b
- \bi\b
x I gave it back to me when I finished.

昨天太累了，没去跑步。
= I was too tired to go running yesterday.
= I was too tired yesterday, so I didn't go for a run.
+ \b(i|we|he|she|they|you)\b.*\b(tired|exhausted)\b
+ (n't|\bnot)\b|\btoo (tired|exhausted)( \w+)? to\b
+ \b(run|running|ran|jog|jogging)\b
x Yesterday is too tired and did not go running.

她把自己的伞给了我。
= She gave me her own umbrella.
= She gave her own umbrella to me.
+ \bgave me her\b|\bgave her\b.*\bto me\b|\blet me (have|take) her\b
x She gave me my umbrella.

小明告诉妈妈他饿了。
= Xiaoming told his mother that he was hungry.
= Xiaoming told his mom he was hungry.
+ \b(his|told) MOTHER
+ \bhe('s| was| is| got| felt| had)\b.*\bhungry\b|\bi('m| am) hungry\b
x Xiaoming told her mother that she was hungry.

快下雨了，我们回家吧。
= It's about to rain. Let's go home.
= It's going to rain soon, so let's go home.
+ \bit('s|'ll| is| will| looks)\b.*\brain|\brain\b.*\b(soon|coming)\b
+ \b(let's|let us|we should|shall we|we'd better|we'll|we must)\b
x Rain soon and we went home.

是我，快开门！
= It's me! Open the door, quick!
= It's me. Hurry up and open the door!
+ \bit('s| is) (me|i)\b
+ \bopen\b
x Yes, I opened the door quickly!

我爱吃苹果，我弟弟不爱吃。
= I like apples, but my little brother doesn't.
= I love apples, but my younger brother doesn't like them.
+ \bi (really )?(like|love|enjoy)\b
+ \bbrother( really)? (doesn't|does not|isn't|is not|hates|dislikes)\b|\
\bnot my (\w+ )?brother\b
x I like apples, and so does my little brother.

有人敲门，你去看看。
= Someone is knocking at the door. Go and see who it is.
= There's someone at the door. Go and have a look.
= Somebody's knocking. Go and see who's there.
+ \bsome(one|body)\b|\ba knock\b|\bthere's a (man|person)\b
+ \b(knock\w*|at the door)\b
+ \b(go|see|check|look|answer|get)\b
- \b(i|he|she|we)('ll| will| went| saw| looked)\b
x Someone knocked, and I went to see.

这些都是我孩子画的。
= These were all drawn by my children.
= All of these were drawn by my child.
= My children drew all of these.
+ \bby my (\w+ )?(child|kid|son|daughter)|\
\bmy (\w+ )?(child|children|kids?) (drew|painted|made|did)\b
x These are all pictures of my children.

# comparison

我比我姐姐矮一点儿。
= I'm a little shorter than my older sister.
= My older sister is a bit taller than I am.
+ \bi('m| am)?\b.*(\bshorter than\b|(n't|\bnot) (quite )?(as|so) tall)|\
\bsister\b.*\btaller\b
x My older sister is a little shorter than I am.

今天没有昨天那么冷。
= It's not as cold today as it was yesterday.
= Today isn't as cold as yesterday.
+ (n't|\bnot)( quite)? (as|so|that) cold|\bless cold\b|\bwarmer\b|\
\byesterday was( \w+)? colder\b|\bcolder yesterday\b
+ \byesterday\b
x It is colder today than it was yesterday.

水果越来越贵了。
= Fruit is getting more and more expensive.
= Fruit is becoming more and more expensive.
= Fruit keeps getting more expensive.
+ \b(more and more|getting|increasingly|becoming|keeps?|rising|going up)\b
+ \bfruits?\b
+ \b(expensive|prices?|dearer|costs?|costly|pricier)\b
x The fruit is too expensive.

他跑得跟我一样快。
= He runs as fast as I do.
= He can run just as fast as me.
+ \bas (fast|quick|quickly) as (i|me|my)\b|\bsame speed\b
- \b(faster|slower|not|never)\b|n't\b
x He runs faster than I do.

你越解释，我越糊涂。
= The more you explain, the more confused I get.
= The more you explain it, the less I understand.
+ \bthe more\b.*\bthe (more|less)\b
x You explain too much, so I am confused.

这条裙子比那条贵一倍。
= This skirt costs twice as much as that one.
= This skirt is twice as expensive as that one.
= This skirt is double the price of that one.
+ \b(twice|double|two times|2 times|twofold)\b
+ \b(skirt|dress|expensive|costs?|prices?)\b
x This skirt is a bit more expensive than that one.

这是全城最好吃的面条。
= These are the best noodles in town.
= These are the tastiest noodles in the whole city.
+ \b(best|most delicious|tastiest|finest)\b
+ \bnoodles?\b
+ \b(town|city)\b
x The noodles in this city are delicious.

我宁可走路，也不坐他的车。
= I'd rather walk than ride in his car.
= I would rather walk than get into his car.
+ \b(rather|sooner|prefer to) (go on foot|walk)\b|\bprefer walking\b
+ \bcar\b
x I would rather take his car than walk.

坐地铁比开车快得多。
= Taking the subway is much faster than driving.
= It's much quicker to take the subway than to drive.
= The subway is a lot faster than driving.
+ \b(faster|quicker)\b.*\bthan\b.*\b(driv\w+|cars?)\b
+ SUBWAY
x Driving is much faster than taking the subway.

# 把 and 被

他把我的自行车弄坏了。
= He broke my bicycle.
= He has damaged my bike.
+ \bhe('s| has)? (broke|broken|damaged|wrecked|ruined)\b.*\bmy BICYCLE|\
\bmy BICYCLE.*\bby him\b
x My bicycle has broken down.

那个小偷被警察抓住了。
= That thief was caught by the police.
= The police have caught that thief.
+ \bthief\b.*\b(caught|arrested|captured|seized)\b.*\bby\b.*\bpolice|\
\bpolice\w*( \w+){0,2} (caught|arrested|captured|seized)\b.*\bthief\b
x That thief caught a policeman.

我的蛋糕被弟弟吃光了。
= My little brother ate up my cake.
= My cake was all eaten up by my younger brother.
= My brother ate all of my cake.
+ \bbrother\b.*\b(ate|eaten|finished)\b.*\bcake\b|\
\bcake\b.*\b(eaten|finished)\b.*\bby\b.*\bbrother\b
- \bbrother's\b.*\bcake\b
x I ate up my little brother's cake.

请把窗帘拉上。
= Please draw the curtains.
= Please close the curtains.
= Would you please draw the curtains?
+ \b(close|draw|shut|pull)\b.*\bcurtains?\b
- \b(open|up|back)\b
x Please open the curtains.

她把信放在我的桌子上了。
= She put the letter on my desk.
= She left the letter on my table.
+ \b(put|left|laid|placed)\b.*\bletter\b.*\bon my (desk|table)\b
x She wrote a letter at my desk.

那棵树被大风刮倒了。
= That tree was blown down by the strong wind.
= The tree was blown over by the gale.
= The strong wind blew that tree down.
+ \btree\b.*\b(blown|knocked|brought|toppled)\b.*\b(wind|gale|storm)|\
\b(winds?|gale|storm)\b.*\b(blew|knocked|toppled|brought)\b.*\btree\b
x That tree is as strong as the wind.

他被老师批评了一顿。
= He was told off by the teacher.
= The teacher gave him a scolding.
= He got a scolding from his teacher.
+ \bhe('s| was| got| has been)\b.*\b(critici|scold|told off|reprimand|blam)|\
\bteacher\b.*\b(critici|scold|told|reprimand|blam|gave)\w*\b.*\bhim\b
x He criticized the teacher.

我忘了把手机带来。
= I forgot to bring my phone along.
= I forgot to bring my cell phone with me.
+ \bforgot (to (bring|take)|my)\b.*phone|\bleft my\b.*phone
- \bnumber\b
x I forgot my phone number.

别把孩子一个人留在家里。
= Don't leave the child alone at home.
= Don't leave your child at home alone.
+ DO_NOT.*\bleave\b.*\b(child|children|kids?)\b
+ \b(alone|by \w+sel\w+|on (his|their|her|its) own|unattended)\b
x Don't stay at home alone with a child.

# numbers and dates

这个城市有一百五十万人。
= This city has a population of 1.5 million.
= There are one and a half million people in this city.
= One and a half million people live in this city.
+ \b1\.5 million|1,?500,?000|\band a half million\b|\bmillion and a half\b|\
\bone million,? five hundred thousand\b|\bone point five million\b
x This city has a population of 150,000.

我妈妈生于一九六八年三月九日。
= My mother was born on March 9, 1968.
= My mother was born on 9 March 1968.
= My mother was born on the 9th of March, 1968.
+ \b1968\b|\bnineteen sixty[- ]eight\b
+ \bmarch (the )?(9|9th|ninth)\b|\b(9|9th|ninth) (day )?(of )?march\b
x My mother was born on September 3, 1968.

飞机下午两点四十分起飞。
= The plane takes off at 2:40 in the afternoon.
= The plane leaves at 2:40 p.m.
= The plane takes off at twenty to three in the afternoon.
+ \b2[:.]40\b|\btwo[- ]forty\b|\btwenty( minutes)? to three\b|\b14[:.]?40\b
x The plane takes off at 4:20 in the afternoon.

一共八百零五块钱。
= That's eight hundred and five yuan altogether.
= That comes to 805 yuan.
= It's 805 yuan in all.
+ \b805\b|\beight hundred (and )?five\b
x That's eight hundred and fifty yuan altogether.

三分之二的学生是女生。
= Two thirds of the students are girls.
= Two-thirds of the students are female.
+ \btwo[- ]thirds\b|\b2/3\b
x Three of the students are two girls.

我们班有四十来个学生。
= There are about forty students in our class.
= Our class has around 40 students.
= We have some forty students in our class.
+ \b(about|around|some|approximately|roughly|nearly|almost|over)( \w+)? \
(40|forty)\b|\b(40|forty)([- ]odd| or so|[- ]something|-some)
x Forty students came to our class.

今天星期三，后天是我的生日。
= Today is Wednesday. The day after tomorrow is my birthday.
= It's Wednesday today, and my birthday is the day after tomorrow.
+ \bwednesday\b
+ \bday after tomorrow\b|\bin two days\b|\bfriday\b
x Today is Wednesday, and tomorrow is my birthday.

这座桥长一千二百米。
= This bridge is 1,200 meters long.
= This bridge is twelve hundred metres long.
= The bridge is 1,200 metres in length.
+ \b1,?200\b|\btwelve hundred\b|\bone thousand,?( and)? two hundred\b|\
\b1\.2 k
x This bridge is 12,000 meters long.

这家餐厅每周二休息。
= This restaurant is closed on Tuesdays.
= This restaurant is closed every Tuesday.
+ \btuesdays?\b
+ \b(close\w*|off|rests?)\b|(n't|\bnot) open\b
x This restaurant is closed every two weeks.

房租比去年涨了百分之十。
= The rent has gone up ten percent since last year.
= The rent is ten per cent higher than last year.
= The rent has risen by 10% compared with last year.
+ (\b(ten|10) ?(percent|per cent)\b|\b10 ?%)
+ \b(up|higher|increase\w*|rose|risen|raised)\b|(percent|per cent|%) more\b
x The rent is a hundred and ten more than last year.

# relative clauses

昨天来的客人是我叔叔的朋友。
= The guest who came yesterday is a friend of my uncle's.
= The visitor who came yesterday is my uncle's friend.
= The guests who came yesterday are friends of my uncle's.
+ \b(guest|visitor|customer|person|man)s?\b.*\byesterday\b.*\
\b(is|was|are|were)\b.*\buncle|\
\byesterday's (guest|visitor)s?\b.*\buncle
x The guests came to my uncle's friend yesterday.

我最喜欢妈妈做的饺子。
= I like the dumplings my mother makes best of all.
= I like my mother's dumplings best.
= The dumplings that my mom makes are my favorite.
+ MOTHER('s)?\b.*\b(make|makes|made|cooks?|dumplings)\b|\
\bdumplings\b.*\bby my MOTHER
+ \b(dumplings|jiaozi)\b
- \bfor (my|her) MOTHER
x I like to make dumplings for my mother best.

戴眼镜的那个女孩是我同学。
= The girl with the glasses is my classmate.
= That girl wearing glasses is a classmate of mine.
+ \bgirl\b.*\bglasses\b.*\b(is|was|'s)\b.*\b(classmate|my class)\b|\
\bclassmate\b.*\b(is|was)\b.*\bgirl\b.*\bglasses\b
x That girl is wearing my classmate's glasses.

这是我爷爷种的树。
= This is the tree that my grandfather planted.
= This is the tree my grandpa planted.
+ \btrees?\b.*GRANDFATHER.*\b(plant|grew|grown)|\
\btrees?\b.*\b(planted|grown)\b.*GRANDFATHER
x My grandfather is planting trees.

你们要找的那个人不在这儿。
= The person you're looking for isn't here.
= The man you are looking for is not here.
+ \b(person|man|one|guy|woman|whoever)\b.*\byou\b.*(n't|\bnot\b).*\bhere\b
- ^you\b
x You are not looking for anyone here.

住在楼上的老人天天唱歌。
= The old man who lives upstairs sings every day.
= The old man upstairs sings every day.
= The old woman living upstairs sings every day.
+ \b(lives?|living|staying)( \w+)* (upstairs|above)\b|\
\b(man|woman|lady|person|people|couple) (from )?(upstairs|above)\b
+ \b(sings?|singing|sang)\b
x The old man goes upstairs to sing every day.

会说三种语言的人不多。
= Not many people can speak three languages.
= Few people speak three languages.
= There are not many people who can speak three languages.
+ (n't|\bnot)( \w+)? many\b|\bfew\b|\brare\b
+ \b(three|3)( \w+)? languages\b
+ \b(people|persons|those|speakers)\b
x People who speak three languages don't talk much.

我昨天买的牛奶已经坏了。
= The milk I bought yesterday has already gone bad.
= The milk that I bought yesterday has gone off already.
+ \bmilk\b.*\b(bought|got|yesterday)\b.*\b(bad|off|sour|spoil\w*|turned)\b
x I bought some milk yesterday.

穿红衣服的是我女儿。
= The one in red is my daughter.
= The girl in red is my daughter.
= The one wearing red is my daughter.
+ \b(one|girl|woman|person|child|who|that's)\b
+ \bred\b.*(\b(is|was)\b|'s) my daughter\b|\bmy daughter is the\b.*\bred\b|\
\bmy daughter in red\b
- \bdaughter's\b
x My daughter is wearing red clothes.

# technical terms

机器学习
= Machine learning
+ \bmachine[- ]learning\b
x The machine is learning.

深度学习
= Deep learning
+ \bdeep[- ]learning\b
x Study hard.

她在大学里研究机器学习。
= She does research on machine learning at the university.
= She studies machine learning at university.
= She is doing research into machine learning at a university.
+ \bmachine[- ]learning\b
+ \buniversity\b|\bcollege\b
x She studies machines at the university.

机器学习是人工智能的一部分。
= Machine learning is part of artificial intelligence.
= Machine learning is a branch of artificial intelligence.
+ \bmachine[- ]learning\b
+ \bartificial intelligence\b|\bai\b
x The machine learned to be a clever worker.

神经网络需要很多数据。
= Neural networks need a lot of data.
= A neural network needs lots of data.
+ \bneural net(work)?s?\b
+ \bdata\b
x The nerves of the internet need many numbers.

这个模型是用什么数据训练的？
= What data was this model trained on?
= What kind of data was used to train this model?
+ \bmodel\b
+ \bdata\b
+ \btrain(ed|ing)?\b
x What number of exercise is this model?

注意力机制改变了机器翻译。
= The attention mechanism changed machine translation.
= Attention mechanisms have transformed machine translation.
+ \battention\b
+ \bmachine translations?\b|\bautomatic translation\b
x The machine's translation changed our attention.
"""
