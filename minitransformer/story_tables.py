"""The words of the storybook, as tables: English beside French.

Each English word has one French word here, so that a sentence has exactly one
translation. A profession therefore has one gender in French, chosen once.
Tags group nouns by meaning; an adjective or a verb names the tags it suits,
which is what keeps the sentences sensible, and a pronoun decidable.
"""

# Nouns: english[/plural] french[/plural] gender. A row "# tag" opens a group.
# English plurals are regular unless given; "mass" nouns have none.
NOUNS_TABLE = """
# adult
man/men homme m
woman/women femme f
king roi m
queen reine f
giant géant m
witch sorcière f
pirate pirate m
thief/thieves voleur m
# job
teacher professeur m
student étudiante f
doctor médecin m
nurse infirmier m
farmer fermier m
baker boulangère f
singer chanteuse f
dancer danseuse f
painter peintre m
lawyer avocate f
engineer ingénieure f
judge juge m
waiter serveur m
waitress serveuse f
actor acteur m
actress actrice f
soldier soldat m
sailor marin m
tourist touriste m
neighbour voisin m
# young
boy garçon m
girl fille f
child/children enfant m
prince prince m
princess princesse f
# family
brother frère m
sister sœur f
mother mère f
father père m
grandmother grand-mère/grands-mères f
grandfather grand-père/grands-pères m
uncle oncle m
aunt tante f
friend ami m
cousin cousine f
# animal
animal animal m
dog chien m
cat chat m
horse cheval m
cow vache f
goat chèvre f
mouse/mice souris f
hen poule f
duck canard m
turtle tortue f
frog grenouille f
fox renard m
wolf/wolves loup m
bear ours m
rabbit lapin m
donkey âne m
goose/geese oie f
pig cochon m
squirrel écureuil m
giraffe girafe f
elephant éléphant m
lion lion m
panther panthère f
bird oiseau m
owl hibou/hiboux m
spider araignée f
ant fourmi f
dragon dragon m
# way
street rue f
road route f
river rivière f
bridge pont m
field champ m
garden jardin m
forest forêt f
park parc m
square place f
valley vallée f
courtyard cour f
avenue avenue f
boulevard boulevard m
stream ruisseau m
tunnel tunnel m
meadow prairie f
lake lac m
swamp marais m
# fruit
apple pomme f
pear poire f
banana banane f
orange orange f
lemon citron m
melon melon m
cherry cerise f
strawberry fraise f
peach pêche f
tomato/tomatoes tomate f
# vegetable
carrot carotte f
onion oignon m
mushroom champignon m
cabbage chou/choux m
bean haricot m
# dish
soup soupe f
cake gâteau m
salad salade f
omelette omelette f
tart tarte f
sandwich sandwich m
biscuit biscuit m
pancake crêpe f
sausage saucisse f
egg œuf m
# stuff mass
bread pain m
cheese fromage m
meat viande f
rice riz m
fish poisson m
ham jambon m
butter beurre m
honey miel m
chocolate chocolat m
jam confiture f
# drink mass
water eau f
milk lait m
tea thé m
coffee café m
juice jus m
wine vin m
lemonade limonade f
beer bière f
# clothes
dress robe f
coat manteau m
hat chapeau m
shirt chemise f
skirt jupe f
scarf/scarves écharpe f
sweater pull m
jacket veste f
shoe chaussure f
glove gant m
boot botte f
sock chaussette f
tie cravate f
suit costume m
# vehicle
car voiture f
truck camion m
bus bus m
bicycle vélo m
motorcycle moto f
tractor tracteur m
van camionnette f
taxi taxi m
ambulance ambulance f
train train m
boat bateau m
# pulled
cart charrette f
plough charrue f
sledge traîneau m
wagon chariot m
# breakable
vase vase m
glass verre m
cup tasse f
plate assiette f
bottle bouteille f
lamp lampe f
mirror miroir m
bowl bol m
teapot théière f
jug cruche f
clock horloge f
# container
box boîte f
bag sac m
suitcase valise f
basket panier m
drawer tiroir m
crate caisse f
chest coffre m
wardrobe armoire f
cupboard placard m
# load
barrel tonneau m
ladder échelle f
stone pierre f
log bûche f
# furniture
table table f
chair chaise f
armchair fauteuil m
sofa canapé m
bed lit m
bench banc m
shelf/shelves étagère f
stool tabouret m
piano piano m
# bedding
cushion coussin m
blanket couverture f
carpet tapis m
mattress matelas m
mat natte f
# instrument
guitar guitare f
violin violon m
drum tambour m
trumpet trompette f
flute flûte f
# text
book livre m
letter lettre f
newspaper journal m
story histoire f
poem poème m
novel roman m
magazine revue f
# small
key clé f
ball ballon m
pen stylo m
pencil crayon m
ring bague f
umbrella parapluie m
knife/knives couteau m
spoon cuillère f
fork fourchette f
doll poupée f
toy jouet m
map carte f
watch montre f
phone téléphone m
candle bougie f
ticket billet m
rope corde f
hammer marteau m
computer ordinateur m
# picture
painting tableau m
photo photo f
# idea
song chanson f
film film m
lesson leçon f
question question f
exam examen m
# opening
door porte f
window fenêtre f
gate portail m
wall mur m
roof toit m
# building
house maison f
castle château m
church église f
school école f
museum musée m
hotel hôtel m
hospital hôpital m
shop magasin m
library bibliothèque f
restaurant restaurant m
tower tour f
hut cabane f
palace palais m
theatre théâtre m
farm ferme f
station gare f
factory usine f
market marché m
barn grange f
stable écurie f
# room
kitchen cuisine f
bedroom chambre f
lounge salon m
office bureau m
attic grenier m
cellar cave f
garage garage m
corridor couloir m
# nature
village village m
city ville f
beach plage f
mountain montagne f
island île f
hill colline f
cave grotte f
path chemin m
# plant
tree arbre m
flower fleur f
rose rose f
"""

# More tags: a noun may belong to several. A word may itself be a tag, and
# "-word" takes something out again.
TAGS_TABLE = """
person: adult job young family
stranger: adult job young
being: person animal
strong: dog horse cow goat bear donkey elephant lion panther giraffe pig
meal: fruit vegetable dish stuff
countable: fruit vegetable dish
wheels: car truck bus bicycle motorcycle tractor van taxi ambulance
driven: car truck bus motorcycle tractor van taxi ambulance cart wagon
driveway: street road bridge field forest square tunnel avenue boulevard
portable: bag basket box suitcase crate chest barrel ladder stone log chair
thing: clothes vehicle breakable container furniture instrument text small
belonging: clothes breakable instrument text small bag suitcase bicycle
goods: clothes breakable container furniture instrument text small
bought: goods vehicle countable
window_or_door: door window gate
openable: door window gate box bag suitcase drawer chest wardrobe cupboard
container_in: box bag suitcase basket drawer crate chest wardrobe cupboard
shelter: barn stable cave cellar house kitchen garage attic castle hut tower
resting: sofa bed cushion blanket carpet mattress mat bench chair
hard_bed: bench chair mattress bed sofa mat
fragile_pulled: pulled sledge
lost: key ring umbrella watch phone hat glove scarf ticket ball doll map
paintable: door window gate wall house boat chair table bench hut shelf
buildable: house bridge castle wall boat tower school church hut palace barn
visitable: museum castle city church village island palace library theatre
musical: song story
drawable: animal castle tree flower house boat tower mountain
cuttable: fruit vegetable cake tart sandwich bread cheese meat ham rope log
wearable: clothes ring watch
giftable: book flower cake key ring doll toy letter map hat apple ball bicycle
giftable: newspaper umbrella rose watch scarf
lendable: book umbrella bicycle pen guitar ladder hammer car map
throwable: ball stone
tool: ladder lamp computer map key hammer knife rope pen phone
edifice: house castle church school museum hotel hospital shop library
edifice: restaurant tower hut palace theatre station factory barn
leavable: house village city school hotel castle hospital restaurant island
surface: table chair bench shelf stool bed piano
outdoors: garden park forest field meadow courtyard street
indoors: kitchen bedroom lounge office attic cellar garage corridor
workplace: garden kitchen office field shop restaurant school factory hospital
workplace: library museum hotel theatre market
destination: market school church museum station restaurant library hospital
destination: theatre beach farm park hotel castle village office factory lake
repairable: vehicle clock lamp watch phone bicycle roof door cart computer
repairable: piano guitar umbrella
washable: clothes vehicle plate cup glass bowl window dog carrot -train -boat
cleanable: room car bus shop house church street table carpet school hotel
landmark: church school station museum castle hotel hospital market library
landmark: farm theatre factory tower
fit_in: guitar violin painting mirror lamp umbrella drum coat
fit_in: blanket cushion clock computer map trumpet carpet
fit_into: box bag suitcase drawer basket crate chest wardrobe cupboard car
furnishing: sofa bed table armchair wardrobe piano mirror carpet lamp shelf
furnishing: painting clock
furnished: kitchen bedroom lounge office attic garage cellar hut restaurant
seated: bench chair armchair sofa
top_heavy: vase lamp mirror clock painting drum computer bowl teapot jug
held_by: shelf table stool bench piano
"""

# English | French masculine and feminine (or one for both) | flags | suits
# flags: b before its noun, a only as attribute, p only as predicate,
# h "avoir" + noun, f fixed form, g gradable ("too", "very"),
# r regular comparative with the form given ("bigger"), else "more".
ADJECTIVES_TABLE = """
big | grand | bg bigger | dog horse bear elephant lion wolf dragon bird \
 building room container furniture garden park field forest lake tree truck \
 boat car bus city village mirror window door square river painting clock \
 suitcase cake lamp piano guitar drum carpet blanket umbrella computer map \
 cushion violin trumpet ladder coat mountain island -corridor
small | petit | bg smaller | boy girl animal building room container \
 furniture village city garden lake field park island breakable key spoon \
 doll toy ball ring fish boat car bicycle cart window door gate cave square \
 river stream bridge hill tree flower dress coat hat shoe glove boot \
 -elephant -giraffe -palace
old | vieux|vieil vieille | bg older | adult job animal building furniture \
 vehicle clothes book newspaper map letter city village tree bridge pulled \
 breakable clock instrument umbrella watch hammer photo carpet tractor box \
 chest suitcase barrel ladder key phone computer
young | jeune | bg younger | adult job boy girl prince princess animal
new | nouveau|nouvel nouvelle | ba | teacher student doctor nurse neighbour \
 judge baker building vehicle clothes furniture book novel film song phone \
 computer bridge watch road lamp guitar violin carpet ladder lesson
beautiful | beau|bel belle | bg | woman queen princess actress singer horse \
 bird panther building garden forest valley lake park square clothes flower \
 rose song poem story painting photo city village beach island mountain tree \
 vase lamp mirror clock ring doll boat car room guitar piano -stable -factory \
 -sock -corridor -cellar -attic -garage -barn
pretty | joli | bg prettier | girl dress skirt hat scarf house garden village \
 flower song vase doll room beach church island ring cup teapot photo bird \
 -corridor -cellar -attic -garage
good | bon bonne | ba | teacher student doctor nurse baker singer dancer \
 painter lawyer judge waiter actor actress book novel film story question \
 dish cheese bread wine coffee restaurant hotel school hospital
bad | mauvais | ba | teacher student doctor singer painter lawyer judge \
 waiter actor actress book novel film story poem road wine coffee soup \
 restaurant hotel
long | long longue | bg longer | story letter novel poem song film road \
 bridge tunnel river dress skirt coat scarf ladder rope table street avenue \
 lesson corridor train exam path boulevard
wide | large | g wider | street road river avenue boulevard stream valley \
 lake square field bed corridor swamp
narrow | étroit | g narrower | street bridge tunnel path road corridor shelf \
 bed bench drawer cupboard wardrobe chest suitcase crate table stool valley
deep | profond | g deeper | river lake stream swamp valley cave drawer
high | haut | pg higher | mountain tower wall hill shelf castle
heavy | lourd | g heavier | portable furniture pulled truck bus tractor van \
 door gate coat piano painting mirror lamp clock drum vase hammer boat \
 wardrobe chest cupboard barrel jug teapot bowl computer book -stool
light | léger légère | g lighter | bag basket box suitcase crate chair \
 ladder sledge bicycle coat dress shirt jacket guitar violin hat umbrella \
 blanket scarf stool table flute computer boat
full | plein | - | bag basket box suitcase crate chest drawer cupboard \
 wardrobe barrel bottle glass cup jug teapot bowl bus train restaurant hotel \
 garage cellar attic stable theatre barn
empty | vide | - | bag basket box suitcase crate chest drawer cupboard \
 wardrobe barrel bottle glass cup jug teapot bowl bus train restaurant \
 street church school beach hut house
fragile | fragile | g | vase glass cup plate bottle lamp mirror bowl teapot \
 jug clock window doll violin flute toy computer ladder
solid | solide | g | chair table bench ladder bridge wall rope door gate box \
 chest crate barrel wagon cart bed shelf roof hut boat
cracked | fêlé | - | vase glass cup plate mirror bowl teapot jug bottle
expensive | cher chère | g | clothes vehicle furniture instrument phone \
 computer ring watch book mirror lamp vase clock carpet painting \
 suitcase wine cheese hotel restaurant house umbrella wardrobe
broken | cassé | - | vase glass cup plate lamp mirror teapot jug clock chair \
 toy watch umbrella ladder window phone doll guitar violin computer \
 bicycle cart plough sledge table bench
clean | propre | g cleaner | clothes room plate cup glass bowl spoon fork \
 knife car bus street school hospital hotel kitchen table bed blanket carpet \
 window beach station restaurant
dirty | sale | g dirtier | clothes room plate cup glass bowl spoon fork \
 knife vehicle street dog cat pig horse donkey table carpet window beach bag \
 blanket sofa mirror station bottle stable wall
red | rouge | - | clothes vehicle door box bag suitcase flower rose apple \
 cup teapot bowl sofa armchair chair cushion blanket carpet ball pencil pen \
 bird roof umbrella cherry tomato wine onion bottle lamp
blue | bleu | - | clothes vehicle door box bag suitcase flower bird cup \
 plate vase bowl sofa armchair chair cushion blanket carpet ball pencil pen \
 wall umbrella bottle teapot
green | vert | - | clothes vehicle door box bag flower apple pear tomato \
 frog bird bottle plate sofa chair armchair cushion carpet pencil pen hill \
 valley meadow lamp umbrella tea
white | blanc blanche | - | clothes vehicle house wall flower rose horse cat \
 dog goose hen rabbit goat mouse cow owl duck plate cup bowl vase blanket \
 table wine church gate bed
black | noir | - | clothes vehicle horse cat dog hen goat cow spider ant \
 panther bear rabbit bag suitcase umbrella piano pen box chair sofa armchair \
 door wolf coffee tea
yellow | jaune | - | clothes flower rose bird duck wall door car bus taxi \
 bicycle cup bowl pencil lemon apple box umbrella boat
grey | gris | - | clothes vehicle wall stone cat horse donkey mouse rabbit \
 wolf goose elephant carpet sofa roof
brown | marron | f | horse dog cow bear hen rabbit goat shoe boot \
 jacket coat bag suitcase table chair hat glove
pink | rose | - | dress skirt shirt hat scarf sweater flower pig wall cup \
 blanket bicycle sock umbrella glove
rich | riche | g richer | adult job prince princess uncle aunt cousin friend \
 -pirate
poor | pauvre | pg poorer | adult job boy girl child
happy | heureux heureuse | g happier | person dog cat horse pig lion \
 elephant mouse
sad | triste | g sadder | person dog story song film poem novel lion horse \
 elephant donkey
kind | gentil gentille | bg kinder | person dog horse elephant -thief
brave | courageux courageuse | g braver | person dog horse lion mouse bear \
 panther goat hen donkey -thief
clever | intelligent | g cleverer | person dog fox mouse elephant horse \
 panther owl pig squirrel ant spider
lazy | paresseux paresseuse | g lazier | person animal -ant
shy | timide | g shyer | person animal
proud | fier fière | g prouder | person lion horse cat panther goose duck
curious | curieux curieuse | g | person animal
strong | fort | g stronger | man woman giant pirate soldier sailor farmer \
 queen king horse elephant bear lion donkey panther cow wolf dragon brother \
 sister
weak | faible | g weaker | person animal -soldier -giant
tired | fatigué | g | person animal
sick | malade | - | person animal
injured | blessé | - | person animal
frightened | effrayé | g | person animal
nervous | nerveux nerveuse | g | person animal
clumsy | maladroit | g clumsier | person animal
angry | en colère | pf | person animal
late | en retard | pf | person bus train taxi ambulance
busy | occupé | pg busier | person
hungry | faim | pgh | person animal
thirsty | soif | pgh | person animal
sleepy | sommeil | pgh | person animal
afraid | peur | pgh | person animal
ashamed | honte | pgh | person animal
polite | poli | g | adult job young -thief -pirate -witch -giant
serious | sérieux sérieuse | g | adult job friend brother sister -pirate \
 -thief
honest | honnête | g | adult job friend -pirate -thief -witch
patient | patient | g | teacher doctor nurse farmer painter engineer waiter \
 waitress mother father grandmother grandfather judge donkey horse cow
generous | généreux généreuse | g | person -thief -pirate
jealous | jaloux jalouse | g | man woman king queen witch actor actress \
 singer dancer neighbour prince princess brother sister friend cousin cat dog
famous | célèbre | g | singer dancer painter actor actress judge lawyer \
 doctor museum castle restaurant painting novel song theatre bridge tower \
 poem hotel pirate king queen city
noisy | bruyant | g noisier | street road avenue boulevard city restaurant \
 neighbour boy child girl station factory bus truck tractor motorcycle \
 square market school
quiet | calme | g quieter | street village garden park forest lake valley \
 beach library hotel square horse island city
dangerous | dangereux dangereuse | g | road street river mountain lion wolf \
 bear panther forest path bridge swamp tunnel pirate avenue boulevard lake
dark | sombre | g darker | forest tunnel room cave street house castle barn \
 stable church courtyard hut tower
closed | fermé | - | shop museum library school bridge tunnel park garden \
 restaurant theatre door window gate church market station factory barn \
 stable hotel castle palace road street hut garage cellar
open | ouvert | p | shop museum library school park restaurant theatre door \
 window gate church market bottle box suitcase drawer castle
flooded | inondé | - | street road field garden park meadow tunnel courtyard \
 valley square avenue boulevard cellar garage cave stable barn kitchen path
blocked | bloqué | - | street road bridge tunnel avenue boulevard path door \
 window gate drawer
muddy | boueux boueuse | g muddier | field road garden courtyard meadow park \
 path street boot shoe swamp square
slippery | glissant | g | street road bridge path courtyard square avenue \
 boulevard
crowded | bondé | - | street square park avenue boulevard bus train market \
 museum restaurant station theatre church library castle shop
modern | moderne | g | building vehicle furniture kitchen office city lamp \
 painting bridge -barn -stable -hut -castle -palace -cart
comfortable | confortable | g | bed sofa armchair chair shoe boot house \
 hotel car train mattress cushion bench bedroom lounge
soft | moelleux moelleuse | g softer | bed sofa cushion armchair carpet \
 mattress
hard | dur | g harder | bed bench chair mattress stone bread biscuit cheese \
 mat sofa
elegant | élégant | g | dress coat hat suit skirt jacket shirt scarf shoe \
 woman man queen king princess prince dancer actor actress lawyer tie
torn | déchiré | - | clothes bag book map letter newspaper blanket carpet \
 -shoe -boot -tie
wet | mouillé | - | clothes dog cat street bench newspaper blanket mat duck \
 umbrella carpet cushion
dry | sec sèche | g drier | bread cake biscuit ham clothes field meadow \
 blanket -tie -suit
interesting | intéressant | g | text film lesson question museum city photo \
 painting exam
boring | ennuyeux ennuyeuse | g | text film lesson city song museum
difficult | difficile | g | book novel poem lesson question exam
easy | facile | g easier | book poem lesson question exam song
funny | drôle | g funnier | story film song book novel poem friend cousin \
 uncle aunt photo
strange | étrange | g stranger | text film song question animal house \
 castle painting tree island
useful | utile | g | tool book lesson car bicycle umbrella bag \
 tractor basket cart dog horse
useless | inutile | - | tool umbrella map book lesson basket lamp clock \
 vase mirror glass cup plate bottle bowl teapot jug
round | rond | - | table mirror box carpet tower window stone cake ball \
 plate cheese
slow | lent | g slower | vehicle animal -horse -panther
fast | rapide | g faster | vehicle horse panther dog cat fox rabbit wolf \
 lion -tractor
hot | chaud | g hotter | soup rice omelette tart bread tea coffee milk water \
 sausage pancake meat
cold | froid | g colder | soup rice omelette meat tea coffee milk water \
 lemonade beer sausage kitchen bedroom church house cellar lake river \
 attic castle fish
fresh | frais fraîche | g fresher | bread milk fish egg fruit vegetable \
 cheese salad juice butter
delicious | délicieux délicieuse | - | meal drink -onion -lemon
ripe | mûr | - | fruit
rotten | pourri | - | fruit vegetable meat fish egg -bean
sweet | sucré | g sweeter | cake tart biscuit melon jam chocolate pancake \
 tea coffee lemonade juice wine strawberry
sour | acide | g | orange lemon apple cherry strawberry peach tomato juice \
 wine lemonade
salty | salé | g saltier | soup meat cheese rice omelette fish ham sausage \
 butter salad bean sandwich
spicy | épicé | g spicier | soup meat rice sausage omelette fish bean \
 sandwich
bitter | amer amère | g | salad orange lemon chocolate coffee tea beer \
 cabbage
burnt | brûlé | - | bread cake meat tart omelette sausage pancake biscuit \
 rice fish
raw | cru | - | meat fish egg sausage mushroom carrot onion cabbage bean
thick | épais épaisse | g thicker | book novel wall blanket carpet coat \
 sweater soup door cushion
thin | mince | g thinner | glass plate window mirror bowl cup wall blanket \
 rope
tight | serré | pg tighter | dress skirt jacket shoe shirt boot glove \
 sweater suit
bulky | encombrant | g bulkier | box bag suitcase basket crate chest barrel \
 ladder painting mirror guitar drum wardrobe piano sofa
stuck | coincé | p | cart plough sledge wagon drawer
overloaded | surchargé | - | truck bus van cart wagon sledge boat tractor
ready | prêt | p | person dish salad boat car bus tea coffee room
reliable | fiable | g | vehicle lawyer nurse engineer watch clock computer \
 friend
cluttered | encombré | - | table shelf bench stool room
French | français | - | job text film car cheese wine song painting hotel \
 restaurant -neighbour -tourist
English | anglais | - | job text film song car tea biscuit castle garden \
 restaurant -neighbour -baker
Italian | italien italienne | - | job text film song car wine cheese ham \
 coffee restaurant -neighbour
"""

# Predicates of consequence: "must be replaced", "can be sold".
RESULTS_TABLE = """
must replaced remplacé | breakable
must repaired réparé | lamp mirror clock vase
"""
# Verbs: English forms | French verb and link | suits. "=" opens the forms of
# an irregular French verb; "!" marks a state (its past is the imperfect).
VERBS_TABLE = """
eat eats ate eaten eating | manger | meal
drink drinks drank drunk drinking | =boire bois buvons buvez boit boivent \
 buv boir bu | drink
buy buys bought bought buying | acheter achèt | bought meal drink
sell sells sold sold selling | =vendre vends vendons vendez vend vendent \
 vend vendr vendu | bought
see sees saw seen seeing | =voir vois voyons voyez voit voient voy verr vu | \
 animal stranger vehicle edifice flower tree painting river bridge
find finds found found finding | trouver | lost animal small clothes box bag \
 suitcase letter mushroom egg
lose loses lost lost losing | =perdre perds perdons perdez perd perdent \
 perd perdr perdu | lost bag suitcase pen pencil letter book
take takes took taken taking | =prendre prends prenons prenez prend \
 prennent pren prendr pris | small belonging bag basket train bus taxi road \
 fruit biscuit
open opens opened opened opening | =ouvrir ouvre ouvrons ouvrez ouvre \
 ouvrent ouvr ouvrir ouvert | openable letter umbrella book bottle
close closes closed closed closing | fermer | openable umbrella book bottle
clean cleans cleaned cleaned cleaning | nettoyer nettoi | cleanable
wash washes washed washed washing | laver | washable
paint paints painted painted painting | =peindre peins peignons peignez \
 peint peignent peign peindr peint | paintable
read reads read read reading | =lire lis lisons lisez lit lisent lis lir lu \
 | text
write writes wrote written writing | =écrire écris écrivons écrivez écrit \
 écrivent écriv écrir écrit | letter book story poem song novel
break breaks broke broken breaking | casser | breakable toy doll window \
 chair watch umbrella
repair repairs repaired repaired repairing | réparer | repairable
build builds built built building | =construire construis construisons \
 construisez construit construisent construis construir construit | buildable
visit visits visited visited visiting | visiter | visitable
help helps helped helped helping | aider | stranger
meet meets met met meeting | rencontrer | stranger
know knows knew known knowing | =connaître connais connaissons connaissez \
 connaît connaissent connaiss connaîtr connu | !stranger song city story \
 village street book
like likes liked liked liking | aimer | !meal animal text clothes song \
 city village garden flower painting film drink house
hear hears heard heard hearing | =entendre entends entendons entendez \
 entend entendent entend entendr entendu | animal stranger song train \
 motorcycle truck -ant -spider -turtle
look_at looks looked looked looking | regarder | painting photo map animal \
 tree flower film boat castle mountain river clock watch -ant
listen_to listens listened listened listening | écouter | song story \
 stranger bird
look_for looks looked looked looking | chercher | lost animal stranger book \
 hotel station museum letter box bag mushroom
wait_for waits waited waited waiting | =attendre attends attendons attendez \
 attend attendent attend attendr attendu | stranger bus train taxi boat \
 ambulance letter
forget forgets forgot forgotten forgetting | oublier | lost bag suitcase \
 book song question story lesson pen letter
draw draws drew drawn drawing | dessiner | drawable
cut cuts cut cut cutting | couper | cuttable
choose chooses chose chosen choosing | =choisir choisis choisissons \
 choisissez choisit choisissent choisiss choisir choisi | clothes text film \
 song hotel restaurant bicycle car ring dish fruit
follow follows followed followed following | =suivre suis suivons suivez \
 suit suivent suiv suivr suivi | stranger animal river road path street car
feed feeds fed fed feeding | =nourrir nourris nourrissons nourrissez \
 nourrit nourrissent nourriss nourrir nourri | animal -ant -spider -dragon
wear wears wore worn wearing | porter | wearable
hide hides hid hidden hiding | cacher | small letter box bag book lost \
 -computer
throw throws threw thrown throwing | lancer | throwable
leave leaves left left leaving | quitter | leavable
touch touches touched touched touching | toucher | animal wall door flower \
 painting mirror vase piano -dragon
steal steals stole stolen stealing | voler | ring watch phone bicycle car \
 painting hen horse cheese cake apple bag suitcase key
push pushes pushed pushed pushing | pousser | cart wagon car bicycle door \
 table chair wardrobe gate sledge
pull pulls pulled pulled pulling | tirer | pulled rope boat
use uses used used using | utiliser | tool
borrow borrows borrowed borrowed borrowing | emprunter | lendable
keep keeps kept kept keeping | garder | small animal text clothes photo \
 -ant -spider -dragon
invite invites invited invited inviting | inviter | stranger
thank thanks thanked thanked thanking | remercier | stranger
prepare prepares prepared prepared preparing | préparer | dish rice meat \
 fish tea coffee lesson -egg -biscuit
fill fills filled filled filling | =remplir remplis remplissons remplissez \
 remplit remplissent rempliss remplir rempli | bag basket box bottle glass \
 jug cup bowl barrel suitcase drawer crate
carry carries carried carried carrying | porter | portable
cross crosses crossed crossed crossing | traverser | way
want wants wanted wanted wanting | =vouloir veux voulons voulez veut veulent \
 voul voudr voulu | !clothes dog cat horse bicycle cake apple book ring \
 bread cheese water milk tea coffee soup rice lemonade chocolate toy doll
have has had had having | =avoir ai avons avez a ont av aur eu | !dog cat \
 horse cow goat rabbit bicycle car garden house boat book piano guitar \
 suitcase key ticket phone question watch hen donkey umbrella
give gives gave given giving | donner | giftable
show shows showed shown showing | montrer | giftable photo painting
bring brings brought brought bringing | apporter | giftable soup tart
lend lends lent lent lending | prêter | lendable
send sends sent sent sending | envoyer envoi enverr | letter book flower \
 photo ring newspaper toy
sleep_on sleeps slept slept sleeping | =dormir dors dormons dormez dort \
 dorment dorm dormir dormi @sur | resting
enter enters entered entered entering | +entrer @dans | shelter
"""

# Verbs without an object, and where they may take place.
PLAIN_VERBS_TABLE = """
sleep sleeps slept slept sleeping | =dormir dors dormons dormez dort \
 dorment dorm dormir dormi | house hotel garden kitchen bedroom barn train
work works worked worked working | travailler | workplace
run runs ran run running | =courir cours courons courez court courent cour \
 courr couru | forest park street garden field corridor meadow courtyard
walk walks walked walked walking | marcher | forest park street garden field \
 meadow city valley
sing sings sang sung singing | chanter | church kitchen garden theatre street
dance dances danced danced dancing | danser | street garden kitchen castle \
 theatre lounge courtyard
cry cries cried cried crying | pleurer | kitchen bedroom garden street \
 corridor hospital car
laugh laughs laughed laughed laughing | =rire ris rions riez rit rient ri \
 rir ri | kitchen garden school bedroom theatre
swim swims swam swum swimming | nager | river lake
shout shouts shouted shouted shouting | crier | street garden school \
 courtyard corridor
play plays played played playing | jouer | garden park courtyard street \
 bedroom kitchen attic meadow
"""
BE_FORMS = "être suis sommes êtes est sont ét ser été"
CAN_FORMS = "pouvoir peux pouvons pouvez peut peuvent pouv pourr pu"
MUST_FORMS = "devoir dois devons devez doit doivent dev devr dû"
GO_FORMS = "aller vais allons allez va vont all ir allé"

# When: words of equal number are aligned.
WHEN_TABLE = """
past | yesterday:1 | hier:1
past | last:1 week:2 | la:2 semaine:2 dernière:1
past | last:1 year:2 | l':2 année:2 dernière:1
past | last:1 month:2 | le:2 mois:2 dernier:1
past | yesterday:1 morning:2 | hier:1 matin:2
past | yesterday:1 evening:2 | hier:1 soir:2
future | tomorrow:1 | demain:1
future | next:1 week:2 | la:2 semaine:2 prochaine:1
future | next:1 year:2 | l':2 année:2 prochaine:1
future | next:1 month:2 | le:2 mois:2 prochain:1
future | tomorrow:1 morning:2 | demain:1 matin:2
future | tomorrow:1 evening:2 | demain:1 soir:2
now | now:1 | maintenant:1
now | today:1 | aujourd'hui:1
now | this:1 morning:2 | ce:1 matin:2
now | this:1 evening:2 | ce:1 soir:2
habit | every:1 day:2 | tous:1 les:1 jours:2
habit | every:1 morning:2 | tous:1 les:1 matins:2
habit | every:1 evening:2 | tous:1 les:1 soirs:2
habit | in:1 summer:2 | en:1 été:2
habit | in:1 winter:2 | en:1 hiver:2
habit | on:1 Sundays:2 | le:1 dimanche:2
habit | on:1 Mondays:2 | le:1 lundi:2
"""

OFTEN = (
    ("often", "souvent"),
    ("always", "toujours"),
    ("sometimes", "parfois"),
    ("rarely", "rarement"),
)

# Determiners: English (singular, plural), French (m, f, plural). "x|y" is x
# before a consonant, y before a vowel sound.
DETERMINERS = {
    "the": (("the", "the"), ("le|l'", "la|l'", "les")),
    "a": (("a|an", "some"), ("un", "une", "des")),
    "this": (("this", "these"), ("ce|cet", "cette", "ces")),
    "my": (("my", "my"), ("mon", "ma|mon", "mes")),
    "his": (("his", "his"), ("son", "sa|son", "ses")),
    "her": (("her", "her"), ("son", "sa|son", "ses")),
    "our": (("our", "our"), ("notre", "notre", "nos")),
    "your": (("your", "your"), ("votre", "votre", "vos")),
    "their": (("their", "their"), ("leur", "leur", "leurs")),
}
POSSESSIVES = ("my", "his", "her", "our", "your", "their")

NUMBERS = (
    ("two", "deux"),
    ("three", "trois"),
    ("four", "quatre"),
    ("five", "cinq"),
    ("six", "six"),
    ("seven", "sept"),
    ("eight", "huit"),
    ("nine", "neuf"),
    ("ten", "dix"),
)

NAMES = (
    ("Anna", "f"),
    ("Emma", "f"),
    ("Julie", "f"),
    ("Louise", "f"),
    ("Adam", "m"),
    ("Paul", "m"),
    ("Oscar", "m"),
    ("Louis", "m"),
)

# Prepositions of place: English and French words.
Preposition = tuple[tuple[str, ...], tuple[str, ...]]
IN: Preposition = (("in",), ("dans",))
ON: Preposition = (("on",), ("sur",))
UNDER: Preposition = (("under",), ("sous",))
TO: Preposition = (("to",), ("à",))
FROM: Preposition = (("from",), ("de|d'",))
FOR: Preposition = (("for",), ("pour",))
WITH: Preposition = (("with",), ("avec",))
BY: Preposition = (("by",), ("par",))
NEAR: Preposition = (("near",), ("près", "de|d'"))
ANYWHERE: tuple[Preposition, ...] = (
    NEAR,
    (("behind",), ("derrière",)),
    (("in", "front", "of"), ("devant",)),
    (("next", "to"), ("à", "côté", "de|d'")),
    (("far", "from"), ("loin", "de|d'")),
)
